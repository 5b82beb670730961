// bench_expand [THREADS]
// How fast frozen matrices are expanded: G elements/s of each tensor type, instruction set and output, medians of one
// run. A matrix of 1536 x 1536 is expanded in turns into one block of 256 rows, as a linear's is before its product
// forward; 64 columns at a time (256 for the K types) is how the backward product takes it. Processor time of the
// slowest thread, so that other programs on the machine disturb little.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <vector>

#include "core/quantisation.hpp"
#include "core/simd/dequantise.hpp"

using namespace kpool;
using simd::Bf16;

namespace {

constexpr std::int64_t kRows = 1536, kColumns = 1536, kRowsAtOnce = 256, kPasses = 8, kRepeats = 9;

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Elements per second of all threads together; each expands its own matrix.
template <class T>
double rate(simd::Expand<T> expand, const BlockLayout& layout, int threads, std::int64_t columns) {
  const std::int64_t row_bytes = kColumns / layout.elements * layout.bytes;
  std::mt19937 engine(1);
  std::vector<std::uint8_t> data(static_cast<std::size_t>(kRows * row_bytes));
  for (auto& byte : data) byte = static_cast<std::uint8_t>(engine() & 0x3f);  // scales stay finite
  std::vector<std::vector<T>> outs(static_cast<std::size_t>(threads), std::vector<T>(kRowsAtOnce * kColumns));
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    std::vector<double> spent(static_cast<std::size_t>(threads));
    at::parallel_for(0, threads, 1, [&](std::int64_t first, std::int64_t end) {
      for (std::int64_t thread = first; thread < end; ++thread) {
        const double begun = thread_seconds();
        for (std::int64_t start = 0; start < kPasses * kColumns; start += columns) {
          const std::int64_t column = start % kColumns;
          for (std::int64_t row = 0; row < kRows; ++row)
            expand(data.data() + row * row_bytes + column / layout.elements * layout.bytes, columns / layout.elements,
                   outs[static_cast<std::size_t>(thread)].data() + row % kRowsAtOnce * columns);
        }
        spent[static_cast<std::size_t>(thread)] = thread_seconds() - begun;
      }
    });
    seconds.push_back(*std::max_element(spent.begin(), spent.end()));
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRepeats / 2, seconds.end());
  return static_cast<double>(threads * kPasses * kRows * kColumns) / seconds[kRepeats / 2];
}

struct Type {
  const char* name;
  GgmlType type;
  simd::Expand<float> simd::BlockKernels<float>::*to_f32;
  simd::Expand<Bf16> simd::BlockKernels<Bf16>::*to_bf16;
};

using F = simd::BlockKernels<float>;
using B = simd::BlockKernels<Bf16>;
constexpr Type kTypes[] = {
    {"f32", GgmlType::f32, &F::f32, &B::f32},     {"f16", GgmlType::f16, &F::f16, &B::f16},
    {"bf16", GgmlType::bf16, &F::bf16, &B::bf16}, {"q4_0", GgmlType::q4_0, &F::q4_0, &B::q4_0},
    {"q4_1", GgmlType::q4_1, &F::q4_1, &B::q4_1}, {"q8_0", GgmlType::q8_0, &F::q8_0, &B::q8_0},
    {"q4_k", GgmlType::q4_k, &F::q4_k, &B::q4_k}, {"q6_k", GgmlType::q6_k, &F::q6_k, &B::q6_k},
};

}  // namespace

int main(int count, char** arguments) {
  const int threads = std::max(1, count > 1 ? std::atoi(arguments[1]) : 1);
  at::set_num_threads(threads);
  const auto sets = simd::dequantise_sets();
  std::printf("type   set     to bfloat16  64 columns each   to float32   (G elements/s, %d threads)\n", threads);
  for (const Type& type : kTypes)
    for (int i = 0; i < sets.count; ++i) {
      const BlockLayout layout = *block_layout(static_cast<std::uint32_t>(type.type));
      const auto to_bf16 = sets.sets[i]->to_bf16.*type.to_bf16;
      const double rows = rate(to_bf16, layout, threads, kColumns);
      const double blocks = rate(to_bf16, layout, threads, std::max<std::int64_t>(64, layout.elements));
      const double wide = rate(sets.sets[i]->to_f32.*type.to_f32, layout, threads, kColumns);
      std::printf("%-6s %-7s %11.2f %16.2f %12.2f\n", type.name, sets.sets[i]->name, rows * 1e-9, blocks * 1e-9,
                  wide * 1e-9);
    }
  return 0;
}
