// kpoolctl: looks at a pool and its model, and takes copies and adapters out of it.
#include <cstdio>
#include <exception>
#include <string_view>

#include <CLI/CLI.hpp>

#include "apps/kpoolctl_commands.hpp"
#include "apps/wait_policy.hpp"

namespace {

int run(const kpool::Command& command) {
  kpool::Status status = kpool::Done{};
  try {
    status = command();
  } catch (const std::exception& error) {
    status = kpool::Error{kpool::Fault::internal, error.what()};
  }
  if (status) return 0;
  std::fprintf(stderr, "kpoolctl: %s\n", status.error().message.c_str());
  return kpool::exit_code(status.error().fault);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "model") kpool::wait_briefly(argv);
  std::ios::sync_with_stdio(false);
  kpool::Command chosen;
  CLI::App app{"Looks at a pool of adapters and its base model, and takes copies and adapters out of it."};
  app.set_version_flag("--version", "kpoolctl " KPOOL_VERSION);
  app.require_subcommand(1);
  kpool::add_daemon_commands(app, chosen);
  kpool::add_store_commands(app, chosen);
  kpool::add_key_commands(app, chosen);
  kpool::add_model_commands(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kpool::exit_code(kpool::Fault::usage);
  }
  return run(chosen);
}
