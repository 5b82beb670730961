#include "apps/kpoolctl_commands.hpp"

#include <iostream>
#include <memory>
#include <tuple>

#include <CLI/CLI.hpp>

#include "apps/kpoolctl_keys.hpp"
#include "apps/kpoolctl_pool.hpp"
#include "apps/kpoolctl_status.hpp"
#include "apps/kpoolctl_verify.hpp"

namespace kpool {

void add_daemon_commands(CLI::App& app, Command& chosen) {
  auto status = std::make_shared<StatusOptions>();
  CLI::App* show = app.add_subcommand("status", "slots, sources, rates and troubles of the running daemon");
  show->add_option("--socket", status->socket, "the daemon's admin.socket")->capture_default_str();
  CLI::Option* json = show->add_flag("--json", status->json, "the daemon's own report; with --watch one line each");
  CLI::Option* watch = show->add_option("--watch", status->watch_seconds, "again every so many seconds")
                           ->check(CLI::Range(0.1, 86400.0));
  show->add_flag("--metrics", status->metrics,
                 "its numbers for Prometheus, as node_exporter's textfile collector takes them")
      ->excludes(json)->excludes(watch);
  show->add_option("--timeout", status->timeout_seconds, "seconds to wait for an answer")
      ->check(CLI::Range(0.1, 86400.0))->capture_default_str();
  show->callback([&chosen, status] { chosen = [status] { return show_status(*status, std::cout); }; });

  auto snapshot = std::make_shared<SnapshotOptions>();
  CLI::App* take = app.add_subcommand("snapshot", "a consistent copy of the pool while the daemon runs");
  take->add_option("DIR", snapshot->directory, "directory to make, on the file system of the store")->required();
  take->add_option("--socket", snapshot->socket, "the daemon's admin.socket")->capture_default_str();
  take->add_option("--timeout", snapshot->timeout_seconds, "seconds to wait until it is done")
      ->check(CLI::Range(0.1, 86400.0))->capture_default_str();
  take->callback([&chosen, snapshot] { chosen = [snapshot] { return take_snapshot(*snapshot, std::cout); }; });

  for (const auto& [name, what, about] :
       {std::tuple{"pin", SlotChange::pin, "keep a slot: it is neither evicted nor merged"},
        std::tuple{"unpin", SlotChange::unpin, "take the pin away"},
        std::tuple{"hold", SlotChange::hold, "keep a slot as it is: as pinned, and its records are refused"},
        std::tuple{"release", SlotChange::release, "take the hold away"}}) {
    auto change = std::make_shared<ChangeOptions>();
    change->what = what;
    CLI::App* command = app.add_subcommand(name, about);
    command->add_option("SLOT", change->slot, "number of the slot")->required();
    command->add_option("--socket", change->socket, "the daemon's admin.socket")->capture_default_str();
    command->add_option("--timeout", change->timeout_seconds, "seconds to wait until it is durable")
        ->check(CLI::Range(0.1, 86400.0))->capture_default_str();
    command->callback([&chosen, change] { chosen = [change] { return change_slot(*change, std::cout); }; });
  }
}

void add_store_commands(CLI::App& app, Command& chosen) {
  auto path = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* verify = app.add_subcommand("verify", "check every value of a store or snapshot, also of a running daemon");
  verify->add_option("PATH", *path, "directory of the store or snapshot")->required();
  verify->add_flag("--json", *json, "sizes and SHA-256 of every value and of the whole state as JSON");
  verify->callback([&chosen, path, json] { chosen = [=] { return verify_store(*path, *json, std::cout); }; });

  auto slot = std::make_shared<std::uint32_t>(0);
  auto directory = std::make_shared<std::string>(), store = std::make_shared<std::string>("/var/lib/kpool");
  CLI::App* take = app.add_subcommand("export", "write a slot's adapter as a directory that PEFT loads");
  take->add_option("SLOT", *slot, "number of the slot")->required();
  take->add_option("DIR", *directory, "directory to make")->required();
  take->add_option("--store", *store, "store, also of a running daemon, or snapshot")->capture_default_str();
  take->callback([&chosen, slot, directory, store] {
    chosen = [=] { return export_slot(*store, *slot, *directory); };
  });
}

void add_key_commands(CLI::App& app, Command& chosen) {
  CLI::App* keys = app.add_subcommand("keys", "CURVE keys of daemon and gateways");
  keys->require_subcommand(1);
  auto directory = std::make_shared<std::string>(), name = std::make_shared<std::string>();
  CLI::App* create = keys->add_subcommand("new", "make NAME.key and NAME.pub in DIR");
  create->add_option("DIR", *directory, "directory, made where it is absent")->required();
  create->add_option("NAME", *name, "whose keys these are, as the daemon's list will call it")->required();
  create->callback([&chosen, directory, name] {
    chosen = [=] { return new_keys(*directory, *name, std::cout); };
  });
  auto file = std::make_shared<std::string>();
  CLI::App* show = keys->add_subcommand("show", "check a key file or list of keys and print its public keys");
  show->add_option("FILE", *file, "NAME.key, NAME.pub or the daemon's list")->required();
  show->callback([&chosen, file] { chosen = [file] { return show_keys(*file, std::cout); }; });
}

}  // namespace kpool
