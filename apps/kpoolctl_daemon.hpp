// Asks the running daemon over its admin socket: one question, one answer. Blocks its caller.
#pragma once

#include <chrono>
#include <string>

#include "core/result.hpp"
#include "messages/admin.hpp"

namespace kpool {

/// Errors: unavailable (no daemon there, or it does not answer in time), denied, bad_input (not its protocol).
Result<admin::Message> ask_daemon(const std::string& socket, const admin::Message& question,
                                  std::chrono::milliseconds patience);

}  // namespace kpool
