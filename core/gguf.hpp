// A GGUF file, mapped read-only: metadata and tensors by name. Immutable after open; any thread may
// read it. Format: GGUF versions 2 and 3, little-endian; the file is hostile until it is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace kpool {

enum class GgmlType : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q8_0 = 8, q4_k = 12, q6_k = 14, bf16 = 30 };

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::f32;
  std::vector<std::int64_t> shape;  ///< row-major: (rows, columns); the file holds it reversed
  std::span<const std::byte> data;  ///< inside the mapping
};

class Gguf {
 public:
  /// Errors: missing, io, bad_input (damaged, or a tensor type that is not supported), each naming the file.
  static Result<std::shared_ptr<const Gguf>> open(const std::string& path);
  ~Gguf();

  /// Metadata; nothing where the key is absent or of another kind. Any integer width is widened.
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key) const;          ///< empty where absent
  std::vector<std::int64_t> integers(std::string_view key) const;      ///< empty where absent

  const GgufTensor* find(std::string_view name) const;  ///< nullptr where absent
  const std::vector<GgufTensor>& tensors() const;
  const std::string& path() const;
  /// SHA-256 of the whole file, hex: the identity of the base model.
  const std::string& fingerprint() const;
  /// Gives the mapped pages back: what was read no longer counts as resident, and is mapped again when it is read.
  void release() const;

 private:
  Gguf();
  struct Contents;
  std::unique_ptr<Contents> contents_;
};

/// Expands rows [first, first + count) of a tensor to float32. out: (count, columns).
void dequantise(const GgufTensor& tensor, std::int64_t first, std::int64_t count, float* out);

}  // namespace kpool
