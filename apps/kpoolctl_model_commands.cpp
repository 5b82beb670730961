// The command line of `kpoolctl model`.
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "apps/kpoolctl_commands.hpp"
#include "apps/kpoolctl_model.hpp"

namespace kpool {
namespace {

using Options = std::shared_ptr<ModelOptions>;
using Work = Status (*)(const ModelOptions&, const Console&);

Console console() { return {std::cin, std::cout, std::cerr}; }

/// A command that reads JSON Lines and writes JSON Lines.
CLI::App* add_lines_command(CLI::App& model, const std::string& name, const std::string& what, const Options& options,
                            Command& chosen, Work work) {
  CLI::App* command = model.add_subcommand(name, what);
  command->add_option("--model", options->model, "the base model, a GGUF file")->required();
  command->add_option("--in", options->in, "JSON Lines with `text` (default: standard input)");
  command->add_option("--out", options->out, "file for the results (default: standard output)");
  command->add_flag("--quiet", options->quiet, "no summary");
  command->callback([&chosen, options, work] { chosen = [=] { return work(*options, console()); }; });
  command->footer("Every other field of a line goes through to its result. Lines that cannot be read are named as\n"
                  "file:line, the rest is worked on, and the exit code is 65.");
  return command;
}

void add_engine_flags(CLI::App& command, const Options& options) {
  command.add_option("--precision", options->precision, "auto, float32 or bfloat16")->capture_default_str()
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}));
  command.add_option("--weights", options->weights, "bf16 (expanded when loaded) or quantised (left in the file)")
      ->capture_default_str()->check(CLI::IsMember({"bf16", "quantised"}));
  command.add_option("--device", options->device, "cpu, or cuda (needs --weights bf16)")->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command.add_option("--threads", options->threads, "0: one per core")->capture_default_str()
      ->check(CLI::Range(0, 1024));
}

void add_encoder_flags(CLI::App& command, const Options& options, const std::string& fallback) {
  command.add_option("--encoder", options->encoder, "base:L or minilm (default: " + fallback + ")");
  command.add_option("--encoder-path", options->encoder_path, "minilm: directory with model.safetensors");
  command.add_option("--products", options->products, "base:L: auto, int8 or full, as encoder.products")
      ->capture_default_str()->check(CLI::IsMember({"auto", "int8", "full"}));
}

}  // namespace

void add_model_commands(CLI::App& app, Command& chosen) {
  CLI::App* model = app.add_subcommand("model", "what the base model is and what it makes of texts");
  model->require_subcommand(1);
  auto about = std::make_shared<ModelOptions>();
  auto json = std::make_shared<bool>(false);
  CLI::App* info = model->add_subcommand("info", "architecture, shape, tensor types, parameters and fingerprint");
  info->add_option("--model", about->model, "the base model, a GGUF file")->required();
  info->add_flag("--json", *json, "as JSON");
  info->callback([&chosen, about, json] { chosen = [=] { return model_info(*about, *json, console()); }; });

  auto tokens = std::make_shared<ModelOptions>();
  add_lines_command(*model, "tokenize", "`ids`: the base's tokens of each text", tokens, chosen, model_tokenize);

  auto embed = std::make_shared<ModelOptions>();
  CLI::App* embedding =
      add_lines_command(*model, "embed", "`embedding`: the vector that routing sees", embed, chosen, model_embed);
  add_engine_flags(*embedding, embed);
  add_encoder_flags(*embedding, embed, "base:13");

  auto score = std::make_shared<ModelOptions>();
  CLI::App* scoring = add_lines_command(*model, "score",
                                        "`nats` (their sum) and `tokens` (how many counted), under auto `slot` and "
                                        "`confidence`", score,
                                        chosen, model_score);
  scoring->add_option("--under", score->under, "base, slot:N, auto (each record's own slot), or an adapter's directory")
      ->capture_default_str();
  scoring->add_option("--store", score->store, "pool of slot:N and auto: store, also of a running daemon, or snapshot")
      ->capture_default_str();
  add_engine_flags(*scoring, score);
  add_encoder_flags(*scoring, score, "the pool's, for auto");
}

}  // namespace kpool
