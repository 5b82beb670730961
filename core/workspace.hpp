// The memory of one training step: one region, taken at the start and given out like a stack, so that a step neither
// allocates nor faults pages in, and what it needs is known before it runs. Owned by a learner, scorer or
// embedder; one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>

namespace kpool {

/// Who computes: our tiles and kernels on the CPU, or libtorch's operators on any device (core/library.hpp).
enum class Operators { tiles, library };

/// What a step works at, for programs that measure where its time goes. An adapter's part of a frozen product that is
/// computed in the same tiles counts as product.
enum class Section { product, lora, attention, loss, elementwise };

class Workspace {
 public:
  explicit Workspace(Operators operators = Operators::tiles, at::Device device = at::kCPU)
      : operators_(operators), device_(device) {}
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// Makes sure that so many bytes can be taken at once; only while nothing is taken. On another device than the CPU
  /// it does nothing: libtorch's caching allocator serves there.
  void reserve(std::size_t bytes);
  /// Uninitialised memory. Asserts that it fits: step_bytes (core/llama.hpp) is the bound.
  at::Tensor take(std::initializer_list<std::int64_t> sizes, at::ScalarType dtype);
  /// Bytes of one such tensor here, for those who plan.
  static std::size_t size_of(std::initializer_list<std::int64_t> sizes, at::ScalarType dtype);
  /// The most that was in use at once.
  std::size_t peak() const { return peak_; }
  std::size_t capacity() const { return capacity_; }
  at::Device device() const { return device_; }
  Operators operators() const { return operators_; }

  /// Called, where it is set, when a step turns to a section; core/ itself has no clock.
  std::function<void(Section)> on_section;
  void enter(Section section) const {
    if (on_section) on_section(section);
  }

  /// Gives back what was taken in its lifetime.
  class Frame {
   public:
    explicit Frame(Workspace& workspace) : workspace_(workspace), used_(workspace.used_) {}
    ~Frame() { workspace_.used_ = used_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Workspace& workspace_;
    const std::size_t used_;
  };

 private:
  const Operators operators_;
  const at::Device device_;
  std::byte* begin_ = nullptr;
  std::size_t capacity_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace kpool
