// The tiny model, loaded.
#pragma once

#include <catch2/catch.hpp>
#include <memory>

#include "core/base.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

namespace kpool::testing {

/// layers: only the first so many of them, and no head (-1: all of it).
inline std::shared_ptr<const Base> tiny_base(const TinyModel& model = {}, std::int64_t layers = -1,
                                             const char* precision = "float32") {
  const TemporaryDirectory directory;
  write_tiny_model(model, directory.file("tiny.gguf"));
  auto base = Base::load({directory.file("tiny.gguf"), precision, layers});
  REQUIRE(base);
  return *base;
}

}  // namespace kpool::testing
