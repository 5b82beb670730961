// Checks what a pool's values mean, without a model: group, slots, mixture, routing, sources. Values in,
// values out.
#pragma once

#include <string>
#include <vector>

#include "storage/store.hpp"

namespace kpool {

/// Everything about the values that does not fit, one sentence each, which begins with the key.
std::vector<std::string> state_problems(const Values& values);

}  // namespace kpool
