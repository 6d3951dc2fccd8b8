"""Marian's Transformer in NumPy: it reads Marian's own weight files, and shares no code with the package."""

import numpy as np


class MarianOracle:
    """Post-norm, as OPUS-MT models are; `weights` are the arrays of the `.npz`."""

    def __init__(self, weights: dict[str, np.ndarray], heads: int, depth: int, activation: str) -> None:
        self.w = {name: array.astype(np.float64) for name, array in weights.items()}
        self.heads, self.depth, self.activation = heads, depth, activation

    def log_probs(self, source: list[int], target: list[int]) -> np.ndarray:
        """Return the log-probability of every token of the vocabulary at each target position.

        Source and target end in EOS.
        """
        w = self.w
        memory = self.embed(w[self.name("encoder")][source])
        for layer in range(1, self.depth + 1):
            memory = self.attend(f"encoder_l{layer}_self", memory, memory)
            memory = self.feed_forward(f"encoder_l{layer}_ffn", memory)
        embedding = w[self.name("decoder")]
        nothing_before_the_first = np.zeros((1, embedding.shape[1]))
        x = self.embed(np.concatenate((nothing_before_the_first, embedding[target[:-1]])))
        for layer in range(1, self.depth + 1):
            x = self.attend(f"decoder_l{layer}_self", x, x, causal=True)
            x = self.attend(f"decoder_l{layer}_context", x, memory)
            x = self.feed_forward(f"decoder_l{layer}_ffn", x)
        logits = x @ w.get("decoder_ff_logit_out_Wt", embedding).T + w["decoder_ff_logit_out_b"]
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def name(self, side: str) -> str:
        return "Wemb" if "Wemb" in self.w else f"{side}_Wemb"

    def embed(self, rows: np.ndarray) -> np.ndarray:
        length, width = rows.shape
        steps = np.arange(width // 2) / (width // 2 - 1)
        angles = np.arange(length)[:, None] * np.exp(-np.log(10_000) * steps)
        return rows * np.sqrt(width) + np.concatenate((np.sin(angles), np.cos(angles)), axis=1)

    def affine(self, x: np.ndarray, prefix: str, suffix: str) -> np.ndarray:
        return x @ self.w[f"{prefix}_W{suffix}"] + self.w[f"{prefix}_b{suffix}"]

    def norm(self, x: np.ndarray, prefix: str) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
        return centred / deviation * self.w[f"{prefix}_ln_scale"] + self.w[f"{prefix}_ln_bias"]

    def attend(self, prefix: str, x: np.ndarray, keys: np.ndarray, *, causal: bool = False) -> np.ndarray:
        q, k, v = self.affine(x, prefix, "q"), self.affine(keys, prefix, "k"), self.affine(keys, prefix, "v")
        outputs = []
        for part in np.split(np.arange(q.shape[1]), self.heads):
            scores = q[:, part] @ k[:, part].T / np.sqrt(len(part))
            if causal:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            exponentials = np.exp(scores)
            outputs.append(exponentials / exponentials.sum(1, keepdims=True) @ v[:, part])
        return self.norm(x + self.affine(np.concatenate(outputs, axis=1), prefix, "o"), f"{prefix}_Wo")

    def feed_forward(self, prefix: str, x: np.ndarray) -> np.ndarray:
        h = self.affine(x, prefix, "1")
        h = {"relu": np.maximum(h, 0), "swish": h / (1 + np.exp(-h))}[self.activation]
        return self.norm(x + self.affine(h, prefix, "2"), f"{prefix}_ffn")
