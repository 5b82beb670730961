// Named places where a test may kill the process: KPOOL_KILL_POINT="name:n" sends SIGKILL to itself
// the n-th time that the place is reached. Without the variable a place costs one comparison.
#pragma once

#include <string_view>

namespace kpool {

/// The names, in the order in which a group meets them (docs/durability.md).
inline constexpr std::string_view kill_points[] = {
    "train.before", "train.after", "barrier.training", "commit.before", "commit.after", "ack.before", "ack.after"};

void kill_point(std::string_view name);

}  // namespace kpool
