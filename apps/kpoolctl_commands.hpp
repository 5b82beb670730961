// The command line of kpoolctl: registers every command with its flags.
#pragma once

#include <functional>

#include "core/result.hpp"

namespace CLI {
class App;
}

namespace kpool {

using Command = std::function<Status()>;

/// Each sets `chosen` when its command is on the command line that is parsed.
void add_daemon_commands(CLI::App& app, Command& chosen);  ///< status, snapshot
void add_store_commands(CLI::App& app, Command& chosen);   ///< verify, export
void add_key_commands(CLI::App& app, Command& chosen);     ///< keys new, keys show
void add_model_commands(CLI::App& app, Command& chosen);   ///< model info, tokenize, embed, score

}  // namespace kpool
