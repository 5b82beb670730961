// The frozen base model: weights, shape and tokenizer of one GGUF file. Immutable after loading, so
// stages of one process share it (shared_ptr to const); each stage has its own scratch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/gguf.hpp"
#include "core/result.hpp"

namespace kpool {

struct BaseShape {
  std::string architecture;  ///< llama | qwen2
  std::int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_width = 0, ffn = 0, vocabulary = 0, context = 0;
  double rope_theta = 10000, rms_epsilon = 1e-5;
  std::int64_t file_layers = 0;  ///< of the whole model; layers: those that are loaded
};

struct BaseOptions {
  std::string path;
  std::string precision = "auto";  ///< auto (bfloat16 where the CPU multiplies it in hardware) | float32 | bfloat16
  std::int64_t layers = -1;        ///< load only the first so many (-1: all, and the head)
  /// bf16: matrices are expanded to `precision` when they are loaded | quantised: they stay in the mapped file.
  std::string weights = "bf16";
  std::string device = "cpu";  ///< cpu | cuda
  /// How input gradients pass the matrices of the layers: full (in `precision`) | int8 | auto (int8 where the processor
  /// multiplies 8-bit integers faster and `precision` does not ask for float32).
  std::string gradients = "auto";
  /// And how training's forward pass does, likewise: losses differ a little (Batch::int8). Scoring is always in full.
  std::string forward = "auto";
  /// Libtorch's operators even where the tiles run: the reference of tests, and what other devices compute with.
  bool library = false;
};

class Base {
 public:
  /// Errors: missing, bad_input (damaged, another architecture, a tensor absent or of a wrong shape), bad_config.
  static Result<std::shared_ptr<const Base>> load(const BaseOptions& options);
  ~Base();
  const BaseShape& shape() const;
  const std::string& fingerprint() const;  ///< Gguf::fingerprint
  const Gguf& file() const;
  bool int8_gradients() const;  ///< what BaseOptions::gradients came to
  bool int8_forward() const;    ///< and BaseOptions::forward
  /// Inside core/ only (core/llama.hpp).
  struct Weights;
  const Weights& weights() const;

 private:
  Base();
  std::unique_ptr<Weights> weights_;
};

}  // namespace kpool
