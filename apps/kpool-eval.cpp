// kpool-eval: carries out a planned experiment, one JSON line per run, and goes on where it was interrupted.
#include <chrono>
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "apps/kpool_eval_experiment.hpp"
#include "apps/wait_policy.hpp"

namespace {

int tell(const kpool::Status& status) {
  if (status) return 0;
  std::fprintf(stderr, "kpool-eval: %s\n", status.error().message.c_str());
  return kpool::exit_code(status.error().fault);
}

kpool::Status run(const kpool::ExperimentOptions& options) {
  try {
    return kpool::run_experiment(options, [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
  } catch (const std::exception& error) {
    return kpool::Error{kpool::Fault::internal, error.what()};
  }
}

}  // namespace

int main(int argc, char** argv) {
  kpool::wait_briefly(argv);
  kpool::ExperimentOptions options;
  CLI::App app{"Runs the experiment of a plan: streams domains through routing, learning and eviction, and measures\n"
               "what is learned and forgotten. Runs that the results hold already are not repeated."};
  app.set_version_flag("--version", "kpool-eval " KPOOL_VERSION);
  app.add_option("plan", options.plan, "the plan, a TOML file (docs/evaluation.md)")->required();
  app.add_option("--model", options.model, "the base model, a GGUF file");
  app.add_option("--data", options.data, "directory with a folder of *.jsonl per domain")->required();
  app.add_option("--out", options.out, "the results, one JSON line per run; appended to")->required();
  app.add_option("-s,--set", options.settings, "section.key=value, above the plan's settings (changes no hash)")
      ->allow_extra_args(false);
  app.add_flag("--list", options.list, "list the runs and stop");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kpool::exit_code(kpool::Fault::usage);
  }
  spdlog::set_level(spdlog::level::warn);
  return tell(run(options));
}
