// The pinned libtorch links, finds its libraries at run time and multiplies.
#include <ATen/ATen.h>
#include <torch/csrc/api/include/torch/version.h>

#include <catch2/catch.hpp>

TEST_CASE("libtorch multiplies a bfloat16 matrix with a float32 accumulator") {
  const auto a = at::arange(6, at::kFloat).reshape({2, 3}).to(at::kBFloat16);
  const auto product = at::matmul(a, a.t()).to(at::kFloat);
  CHECK(at::equal(product, at::tensor({5.f, 14.f, 14.f, 50.f}).reshape({2, 2})));
}

TEST_CASE("the headers are of a version that this tree is built against") {
  CHECK(TORCH_VERSION_MAJOR == 2);
#ifdef KPOOL_CORE_ONLY
  CHECK(TORCH_VERSION_MINOR >= 8);
#else
  CHECK(TORCH_VERSION_MINOR == 15);
#endif
}
