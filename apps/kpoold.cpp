// kpoold: reads the configuration, builds the pipeline, waits, maps how it ended to an exit code.
#include <signal.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include <CLI/CLI.hpp>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "actors/models.hpp"
#include "apps/process_limits.hpp"
#include "apps/wait_policy.hpp"
#include "config/load.hpp"

namespace {

int fail(const kpool::Error& error) {
  std::fprintf(stderr, "kpoold: %s\n", error.message.c_str());
  return kpool::exit_code(error.fault);
}

kpool::Result<kpool::LoadedConfig> read_config(const std::string& file, const std::vector<std::string>& overrides) {
  std::vector<std::string> files;
  if (!file.empty()) {
    auto found = kpool::config_files(file);
    if (!found) return found.error();
    files = *std::move(found);
  }
  return kpool::load_config(files, kpool::config_environment(environ), overrides);
}

kpool::Result<kpool::Outcome> run(const kpool::Config& config) {
  // Blocked here, before any thread is there, so that all inherit it and main alone takes signals.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGUSR2}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  auto keys = kpool::load_keys(config);
  if (!keys) return keys.error();
  auto parts = kpool::load_parts(config);
  if (!parts) return parts.error();
  zmq::context_t context;
  context.set(static_cast<zmq::ctxopt>(10), 0);  // ZMQ_ZERO_COPY_RECV: received frames are aligned
  auto loops = kpool::build_pipeline(context, config, *keys, *parts);
  if (!loops) return loops.error();
  std::atomic<bool> ended = false;  // SIGUSR2 wakes the loop below, but anybody may send it
  kpool::Running running(*std::move(loops), [](const char* state) { sd_notify(0, state); }, [&ended] {
    ended = true;
    kill(getpid(), SIGUSR2);
  });
  for (int signal = 0; !ended;) {
    sigwait(&signals, &signal);
    if (signal != SIGUSR2) running.stop();
  }
  return running.wait();
}

}  // namespace

int main(int argc, char** argv) {
  kpool::wait_briefly(argv);
  kpool::set_allocator_limits();
  std::string file, stages;
  std::vector<std::string> overrides;
  bool check = false, dump = false;
  CLI::App app{"Adapts a frozen language model to a stream of text, without keeping the text."};
  app.set_version_flag("--version", "kpoold " KPOOL_VERSION);
  app.add_option("-c,--config", file, "configuration file (TOML); conf.d/*.toml beside it is read after it");
  app.add_option("-s,--set", overrides, "section.key=value, above all files")->allow_extra_args(false);
  app.add_option("--stages", stages, "only these stages in this process, for instance training or ingestion,encoding");
  app.add_flag("--check", check, "check the configuration and stop");
  app.add_flag("--dump-config", dump, "print the effective configuration with where each value came from");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kpool::exit_code(kpool::Fault::usage);
  }
  if (!stages.empty()) overrides.push_back("engine.stages=" + stages);
  auto loaded = read_config(file, overrides);
  if (!loaded) return fail(loaded.error());
  if (dump) std::fputs(kpool::dump_config(*loaded).c_str(), stdout);
  if (check) {
    const auto fits = kpool::tell_memory(loaded->config, [](const std::string& line) { std::puts(line.c_str()); });
    return fits ? 0 : fail(fits.error());
  }
  if (dump) return 0;
  spdlog::set_default_logger(spdlog::stderr_color_mt("kpoold"));
  spdlog::set_level(spdlog::level::from_str(loaded->config.log.level));
  kpool::set_process_limits();
  kpool::FlightJournal::watch_fatal_signals();  // the journals say which record was in hand
  auto outcome = run(loaded->config);
  if (!outcome) return fail(outcome.error());
  if (outcome->exit_code != 0) std::fprintf(stderr, "kpoold: %s\n", outcome->message.c_str());
  return outcome->exit_code;
}
