// `kpool-gateway send`, behind its flags: builds the parts of a send job and runs it. Called once from main.
#pragma once

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

namespace kpool {

struct SendCommand {
  std::string to = "tcp://127.0.0.1:7447";
  std::string server_key;       ///< file, or the key itself
  std::string key;              ///< NAME.key
  std::string state;            ///< empty: `<key>.state`
  std::uint64_t epoch = 0;      ///< 0: by the state
  std::string kind = "auto";    ///< auto | jsonl | text
  std::string progress = "auto";  ///< auto | plain | json | none
  bool strict = false;
  std::vector<std::string> paths;
};

/// Runs until all is settled or `stop` is set; returns the exit code (docs/exit-codes.md).
int run_send(const SendCommand& command, const volatile std::sig_atomic_t& stop);

}  // namespace kpool
