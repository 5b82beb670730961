#include "core/attention.hpp"

#include "core/attention_tiles.hpp"
#include "core/library.hpp"

namespace kpool {

void rotate(at::Tensor& qkv, const Batch& batch, const BaseShape& shape, Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::rotate(qkv, batch, shape);
  workspace.enter(Section::elementwise);
  tiles::rotate(qkv, batch, shape);
}

void attend(const at::Tensor& qkv, const Batch& batch, const BaseShape& shape, at::Tensor& out, at::Tensor& log_sums,
            Workspace& workspace) {
  if (workspace.operators() == Operators::library) return library::attend(qkv, batch, shape, out, log_sums);
  workspace.enter(Section::attention);
  tiles::attend(qkv, batch, shape, out, log_sums, workspace);
}

void attend_backward(const at::Tensor& dout, const at::Tensor& out, const at::Tensor& qkv, const at::Tensor& log_sums,
                     const Batch& batch, const BaseShape& shape, at::Tensor& dqkv, Workspace& workspace) {
  if (workspace.operators() == Operators::library)
    return library::attend_backward(dout, out, qkv, log_sums, batch, shape, dqkv);
  workspace.enter(Section::attention);
  tiles::attend_backward(dout, out, qkv, log_sums, batch, shape, dqkv, workspace);
}

std::size_t attention_bytes(const BaseShape& shape, std::int64_t tokens, at::ScalarType dtype, int threads) {
  return tiles::attention_bytes(shape, tokens, dtype, threads);
}

}  // namespace kpool
