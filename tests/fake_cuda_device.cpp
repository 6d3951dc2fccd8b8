// A CUDA device for a CPU-only torch that does nothing: one device, one stream, and events that are always done.
// Autograd asks a tensor's device for its streams, so fake tensors on CUDA need something that answers.
#include <ATen/SDPBackend.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/transformers/attention.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

struct FakeCudaGuard : c10::impl::NoOpDeviceGuardImpl<CUDA> {
  static c10::Device device() { return c10::Device(CUDA, 0); }
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, device()); }

  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int = 0) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
};

// As on a GPU: flash attention, or, with a mask or in float32, the memory-efficient kernel.
int64_t choose_attention(
    const at::Tensor& query, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>& mask,
    double, bool, std::optional<double>, bool) {
  bool needs_efficient = mask.has_value() || query.scalar_type() == at::kFloat;
  auto kernel = needs_efficient ? at::SDPBackend::efficient_attention : at::SDPBackend::flash_attention;
  return static_cast<int64_t>(kernel);
}

}  // namespace

C10_REGISTER_GUARD_IMPL(CUDA, FakeCudaGuard);

namespace at {

// Torch looks for this name.
struct CUDAHooks : at::CUDAHooksInterface {
  CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  int getNumGPUs() const override { return 1; }
  bool isPinnedPtr(const void*) const override { return false; }
};

REGISTER_CUDA_HOOKS(CUDAHooks);

namespace native {
static RegisterCUDADispatch<decltype(_fused_sdp_choice_stub)> chosen(_fused_sdp_choice_stub, &choose_attention);
}  // namespace native

}  // namespace at
