#include "clients/send_command.hpp"

#include <unistd.h>

#include <iostream>

#include "clients/input_list.hpp"
#include "clients/send_job.hpp"

namespace kpool {
namespace {

InputKind kind_of(const std::string& name) {
  return name == "jsonl" ? InputKind::jsonl : name == "text" ? InputKind::text : InputKind::automatic;
}

ProgressKind progress_of(const std::string& name) {
  if (name == "none") return ProgressKind::none;
  if (name == "json") return ProgressKind::json;
  return name == "auto" && ::isatty(STDERR_FILENO) == 1 ? ProgressKind::terminal : ProgressKind::plain;
}

Result<GatewayClientOptions> client_options(const SendCommand& command) {
  GatewayClientOptions options;
  options.endpoint = command.to;
  auto server_key = read_public_key(command.server_key);
  if (!server_key) return server_key.error();
  auto keys = read_keys(command.key);
  if (!keys) return keys.error();
  options.server_public_key = std::move(*server_key);
  options.keys = std::move(*keys);
  return options;
}

Result<SendSummary> send(const SendCommand& command, ProgressReport& report,
                         const volatile std::sig_atomic_t& stop) {
  const auto say = [&](const std::string& line) { report.say("kpool-gateway: " + line, std::cerr); };
  auto options = client_options(command);
  if (!options) return options.error();
  const RecordReaderOptions reading{kind_of(command.kind), command.strict};
  auto inputs = list_inputs(command.paths, reading);
  if (!inputs) return inputs.error();
  auto file = GatewayStateFile::open(command.state.empty() ? command.key + ".state" : command.state);
  if (!file) return file.error();
  auto last = file->load();
  if (!last) return last.error();
  const GatewayState start = next_run(*last, inputs->fingerprint, command.epoch);
  if (start.epoch != last->epoch && !last->finished)
    say("the former input was not finished (" + std::to_string(last->acked) +
        " of its records are settled): if it is sent again after this one, all its records are learned again");
  // The epoch is durable before the daemon hears of it: it is never used for two inputs.
  if (auto saved = file->save(start); !saved) return saved.error();

  RecordReader reader(inputs->files, reading);
  RefusalLog refusals(start.acked + 1, [&](const Place& place, const char* why) {
    say(reader.name(place) + ": refused: " + why);
  });
  options->epoch = start.epoch;
  options->last_acked = start.acked;
  auto client = GatewayClient::open(*options, [&](auto seq, auto why) { refusals.refused(seq, why); });
  if (!client) return client.error();
  SendJob job({reader, **client, refusals, report, [&](const GatewayState& state) { return file->save(state); }, say,
               start, inputs->fingerprint.empty() ? 0 : inputs->bytes});
  if (auto done = job.run(stop); !done) {
    report.say(summary_text(job.summary()), std::cerr);
    return done.error();
  }
  return job.summary();
}

}  // namespace

int run_send(const SendCommand& command, const volatile std::sig_atomic_t& stop) {
  const ProgressKind kind = progress_of(command.progress);
  ProgressReport report(kind, kind == ProgressKind::json ? std::cout : std::cerr);
  auto summary = send(command, report, stop);
  if (!summary) {
    report.say("kpool-gateway: " + summary.error().message, std::cerr);
    return exit_code(summary.error().fault);
  }
  std::cout << (kind == ProgressKind::json ? summary_json(*summary) : summary_text(*summary)) << std::endl;
  return summary_exit_code(*summary);
}

}  // namespace kpool
