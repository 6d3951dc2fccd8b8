"""Translating with CTranslate2, an inference engine, through the same interface as `Translator`."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from transformer.checkpoint.format import MODEL, CheckpointError
from transformer.checkpoint.opening import OpenedRun
from transformer.checkpoint.reading import file_hash, read_object
from transformer.config.checks import require_device
from transformer.config.errors import is_out_of_memory, shortened
from transformer.convert.common import open_convertible, require_package
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.length_penalty import length_penalty
from transformer.decoding.lines import LineTranslator, SearchOptions
from transformer.decoding.translation import Output, Translation, distinct_texts, filled
from transformer.files import whole_folder, write
from transformer.processes import cpu_threads, own_gpu

HASHES = "hashes.json"
PATIENCE = 2
"""CTranslate2's search for a sentence stops when `PATIENCE` × `beam_size` hypotheses are complete; our search
stops when no incomplete hypothesis can still win. With a patience of 2 and the paper's length penalty, both
searches find the same translations (docs/convert.md)."""
SMALLEST_PENALTY = 1e-3
"""Replaces a length penalty of 0, with which CTranslate2 would end the search by another rule."""


class CTranslate2Translator(LineTranslator):
    """Translates with CTranslate2; lines, batches, limits, warnings and scores are as in `Translator`.

    CTranslate2's beam search follows the rules of docs/decoding.md with two exceptions: it stops by another
    rule, and it selects hypotheses by another length penalty. This class then scores and ranks the selected
    hypotheses by our length penalty.

    A translator made by `from_pretrained` can be pickled; the process that unpickles the translator loads the
    engine again from the folder of the converted model.
    """

    def __init__(self, engine: Any, tokenizer: Tokenizer, **options: Any) -> None:
        """Wrap the `ctranslate2.Translator` `engine`; `options` are those of `LineTranslator`."""
        super().__init__(tokenizer, **options)
        self.engine = engine
        self.load_engine: Callable[[], Any] | None = None
        self.pieces = tokenizer.pieces
        self.id_of = {piece: number for number, piece in enumerate(self.pieces)}

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: str = "auto", quantization: str = "float32"
    ) -> "CTranslate2Translator":
        """Load a run's folder (its best checkpoint) or one checkpoint of it, ready to translate.

        The converted model is kept in the subfolder `ctranslate2-QUANTIZATION/` of the checkpoint, which is
        written if it is missing, or if an early version of this package wrote it without hashes. Raises
        `CheckpointError` if a file in the subfolder has changed since the conversion.
        """
        require_package("ctranslate2")
        opened = open_convertible(path)
        folder = opened.checkpoint / f"ctranslate2-{quantization}"
        if not (folder / HASHES).is_file():
            convert_checkpoint(opened, folder, quantization)
        require_unchanged(opened, folder)
        settings = opened.settings
        # absolute, because the process that unpickles the translator may have another working directory
        load = partial(load_engine, folder.absolute(), device, quantization)
        translator = cls(load(), opened.tokenizer, model_config=settings.model, decoding=settings.decoding)
        translator.load_engine = load
        return translator

    def __getstate__(self) -> dict[str, Any]:
        if self.load_engine is None:
            raise TypeError("only a CTranslate2Translator made by from_pretrained can be pickled or copied")
        return self.__dict__ | {"engine": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        assert self.load_engine is not None  # see __getstate__
        self.engine = self.load_engine()

    @property
    def device_type(self) -> str:
        return str(self.engine.device)

    def translate_batch(
        self, sources: Sequence[list[int]], starts: Sequence[list[int]], options: SearchOptions
    ) -> list[list[Translation]]:
        """Translate token ids; raise `ValueError` for processors, prefixes or sampling (not supported)."""
        if options.processors or options.sampler or any(starts):
            raise ValueError("CTranslate2 supports no processors, prefixes or sampler; use a Translator")
        return [
            filled(distinct_texts(outputs, options.n_best), options.n_best)
            for outputs in self.read_out(self.search(sources, options))
        ]

    def search(self, sources: Sequence[list[int]], options: SearchOptions) -> list[list[Output]]:
        """Return CTranslate2's hypotheses for each source; none is longer than the source's limit (§6.1)."""
        limits = [self.limit(source, []) for source in sources]
        found = self.translate_ids(sources, max(limits), options)
        for row, limit in enumerate(limits):
            # CTranslate2 supports only one length limit per batch, so the batch is searched with the largest
            # limit. A row is searched again with its own limit only if one of its hypotheses exceeds this
            # limit; otherwise the limit would have had no effect.
            if any(len(output.ids) > limit for output in found[row]):
                (found[row],) = self.translate_ids([sources[row]], limit, options)
        return found

    def translate_ids(
        self, sources: Sequence[list[int]], limit: int, options: SearchOptions
    ) -> list[list[Output]]:
        """Return the hypotheses of each source, best first.

        The engine returns `beam_size` hypotheses if one output is requested, and more for n-best lists,
        because several hypotheses may have the same text.
        """
        beam_size, alpha = options.beam_size, options.alpha
        count = beam_size if options.n_best == 1 else PATIENCE * beam_size
        penalty = max(alpha / 2, SMALLEST_PENALTY)  # as steep as our penalty at 5 tokens
        results = self.engine.translate_batch(
            [[self.pieces[number] for number in ids[:-1]] for ids in sources],  # the engine adds EOS
            max_batch_size=math.ceil(len(sources) / self.engine.num_translators),  # one batch for each worker
            beam_size=beam_size,
            num_hypotheses=count,
            patience=PATIENCE,
            length_penalty=penalty,
            max_input_length=0,
            min_decoding_length=0,
            max_decoding_length=limit,
            return_scores=True,
            return_end_token=True,
        )
        return [
            sorted(self.outputs(result, penalty, alpha), key=lambda output: -output.score)
            for result in results
        ]

    def outputs(self, result: Any, penalty: float, alpha: float) -> Iterator[Output]:
        """Yield the hypotheses with our scores; CTranslate2's score is log-probability / |y| ** penalty."""
        for pieces, score in zip(result.hypotheses, result.scores, strict=True):
            length = len(pieces)
            log_probability = score * length**penalty
            yield Output(
                [self.id_of[piece] for piece in pieces], log_probability / length_penalty(length, alpha)
            )


def convert_checkpoint(opened: OpenedRun, folder: Path, quantization: str) -> None:
    """Convert a checkpoint into `folder`, which is created or replaced only when the model is complete."""
    from transformer.convert.ctranslate2_spec import write_checkpoint_model  # imports torch

    # FileExistsError means that another process has written the folder first, which is harmless
    with suppress(FileExistsError), whole_folder(folder, replace=folder.is_dir()) as unfinished:
        write_checkpoint_model(opened, unfinished, quantization)
        seal(opened, unfinished)


def seal(opened: OpenedRun, folder: Path) -> None:
    """Record the hashes of the folder's files and of the weights from which they were converted."""
    write(folder / HASHES, json.dumps(found_hashes(opened, folder), indent=1))


def found_hashes(opened: OpenedRun, folder: Path) -> dict[str, str]:
    """Compute the current hash of each file in the folder, and of the checkpoint's weights."""
    files = [opened.checkpoint / MODEL, *sorted(path for path in folder.iterdir() if path.name != HASHES)]
    return {path.name: file_hash(path) for path in files}


def require_unchanged(opened: OpenedRun, folder: Path) -> None:
    """Raise `CheckpointError` unless the files of a converted model have the hashes that `seal` recorded."""
    try:
        recorded = read_object(folder / HASHES)
        found = found_hashes(opened, folder)
    except (OSError, ValueError, RecursionError):
        raise CheckpointError(f"{folder}: no readable {HASHES}; delete the folder to convert again") from None
    for name in sorted(recorded.keys() | found.keys()):
        if recorded.get(name) != found.get(name):
            raise CheckpointError(
                f"{folder}: {shortened(name)} is missing or damaged, its hash is not the one in {HASHES}; "
                "delete the folder to convert again"
            )


def load_engine(folder: Path, device: str, quantization: str = "float32") -> Any:
    """Load a converted model as a `ctranslate2.Translator` with as many CPU threads as torch uses.

    In int8, each thread is a separate worker, because a product in int8 takes so little time that several
    threads sharing it would mostly wait for each other (docs/convert.md).
    """
    package = require_package("ctranslate2")
    kind, index = engine_device(device, package.get_cuda_device_count())
    threads = cpu_threads()
    workers = threads if kind == "cpu" and quantization == "int8" else 1
    try:
        return package.Translator(
            str(folder),
            device=kind,
            device_index=index,
            inter_threads=workers,
            intra_threads=threads // workers,
        )
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{folder}: CTranslate2 cannot load it: {error}; delete the folder to convert again"
        ) from None


def engine_device(name: str, gpus: int) -> tuple[str, int]:
    """Return the kind and number of the device that `name` means; `auto` means a CUDA GPU if there is one.

    Raises `ValueError` if CTranslate2, which sees this number of `gpus`, has no such device.
    """
    require_device(name)
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    kind, _, number = own_gpu(name).partition(":")
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}, but CTranslate2 runs only on cpu or cuda")
    index = int(number or 0)
    if kind == "cuda" and index >= gpus:
        raise ValueError(f"device is {name!r}, but CTranslate2 sees {gpus} CUDA GPUs here")
    return kind, index
