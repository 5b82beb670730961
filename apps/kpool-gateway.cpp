// kpool-gateway: streams text records to a daemon and holds each until it is acknowledged.
#include <signal.h>

#include <CLI/CLI.hpp>

#include "clients/send_command.hpp"
#include "core/result.hpp"

namespace {

volatile std::sig_atomic_t stop = 0;

// The first signal ends the run in order, a second one at once.
void stop_on_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

void describe(CLI::App& send, kpool::SendCommand& command) {
  send.add_option("paths", command.paths, "Files, directories (all in them, in order of name), or - (standard input)")
      ->required()->type_name("PATH");
  send.add_option("--to", command.to, "Where the daemon listens")->capture_default_str()->type_name("ENDPOINT");
  send.add_option("--server-key", command.server_key, "The daemon's public key, or the file that holds it")
      ->required()->type_name("FILE");
  send.add_option("--key", command.key, "This gateway's key pair (kpoolctl keys new)")->required()->type_name("FILE");
  send.add_option("--epoch", command.epoch, "Number of this input; by default the next one if the input is new")
      ->check(CLI::PositiveNumber)->type_name("N");
  send.add_option("--state", command.state, "Where it is remembered how far this gateway came (default: KEY.state)")
      ->type_name("FILE");
  send.add_option("--kind", command.kind, "auto: by the file's name, of standard input by its first character")
      ->capture_default_str()->check(CLI::IsMember({"auto", "jsonl", "text"}));
  send.add_option("--progress", command.progress, "auto: one line on a terminal, else plain lines")
      ->capture_default_str()->check(CLI::IsMember({"auto", "plain", "json", "none"}));
  send.add_flag("--strict", command.strict, "A JSON field other than text and prompt is an error");
  send.footer(
      "JSON Lines: objects with a string \"text\"; a string \"prompt\" that begins the text is not learned.\n"
      "Plain text: one record per paragraph of at most 2,000 characters.\n"
      "What a stopped run left open is sent when the same files are sent again.\n\n"
      "Exit: 0 all acknowledged; 65 something was refused or could not be sent, each named as file:line;\n"
      "75 interrupted; 64 usage; 66 no such file; 69 in use by another; 76 the daemon's store does not fit\n"
      "this gateway's state; 77 no permission.");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Streams text records to kpoold and holds each until it is acknowledged.", "kpool-gateway");
  app.set_version_flag("--version", "kpool-gateway " KPOOL_VERSION);
  app.require_subcommand(1);
  kpool::SendCommand command;
  describe(*app.add_subcommand("send", "Send files, directories or standard input"), command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kpool::exit_code(kpool::Fault::usage);
  }
  stop_on_signals();
  return kpool::run_send(command, stop);
}
