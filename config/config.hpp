// The whole configuration as one struct: defaults here, then file, conf.d, environment, flags.
// A value that is set is a value that is used; an unknown key is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/fragility.hpp"
#include "core/result.hpp"
#include "core/router.hpp"

namespace kpool {

struct BaseConfig {
  std::string path;                ///< GGUF file of the frozen base model
  std::string precision = "auto";  ///< auto | float32 | bfloat16: of the frozen linears
  std::string weights = "bf16";    ///< bf16 | quantised: expanded when the base is loaded, or where they are used
  std::string gradients = "auto";  ///< auto | int8 | full: how input gradients pass the frozen linears
  std::string forward = "auto";    ///< auto | int8 | full: how training's forward pass does
};
struct DeviceConfig {
  std::string kind = "cpu";  ///< cpu | cuda
};
struct EncoderConfig {
  std::string kind = "base:13";  ///< base:L | minilm
  std::string path;             ///< minilm: directory with model.safetensors and vocab.txt
  std::uint32_t tokens_max = 96;
  std::string products = "auto";  ///< auto | int8 | full: how base:L multiplies
  bool share = true;  ///< layers that routing and training have in common run once, where lora.layers leaves any
};
struct LoraConfig {
  std::uint32_t rank = 8;
  double alpha = 64;
  std::uint32_t layers = 0;  ///< so many of the last layers have an adapter; 0: all
  /// fresh | warm: from a part of a slot that is clearly better than the base | directions: with its A
  std::string births = "fresh";
};
struct TrainConfig {
  std::optional<double> learning_rate = 5e-4;  ///< nothing: that of a slot's first step, then rate_guard = auto
  std::string rate_guard = "off";  ///< off | warn | auto
  double momentum = 0.9;
  std::string momentum_type = "bfloat16";  ///< float32 | bfloat16
  double weight_decay = 0;
  std::uint32_t tokens_per_step = 512;
  std::uint32_t threads = 0;  ///< 0: one per core
};
struct CommitConfig {
  std::uint64_t bytes = 16384;          ///< text bytes per group (about 4096 tokens)
  std::uint32_t records_max = 4096;     ///< or as many records
  std::uint32_t max_wait_ms = 10000;    ///< or this long after the group's first record
  std::uint32_t groups_in_flight = 4;   ///< groups sent into the pipeline and not yet durable
};
struct GatewayConfig {
  std::string listen = "tcp://127.0.0.1:7447";
  std::string secret_key_file;       ///< the daemon's CURVE key pair
  std::string authorized_keys_file;  ///< lines "name public-key"
  std::uint64_t credit_bytes = 8u << 20;   ///< of all sources together, shared out evenly
  std::uint32_t credit_records = 65536;    ///< records of one source that may be unacknowledged
  std::uint32_t sources_max = 16;          ///< gateways served at once
  std::uint32_t record_bytes_max = 65536;
};
struct StoreConfig {
  std::string kind = "rocksdb";  ///< rocksdb | memory
  std::string path = "/var/lib/kpool";
};
struct AdminConfig {
  std::string socket = "ipc:///run/kpool/admin.sock";
};
struct EngineConfig {
  bool deterministic = false;
  std::uint64_t seed = 0;
  std::vector<std::string> stages;  ///< empty: all in this process
  std::string journal = "/run/kpool/inflight";  ///< files (one per stage) that name the record in hand; empty: none
  std::string transport = "inproc"; ///< inproc | ipc:<directory> | tcp:<host>:<first port>
};
struct MemoryConfig {
  std::uint64_t budget_mb = 0;  ///< of this process, in 10^6 bytes; 0: none
};
struct LogConfig {
  std::string level = "info";  ///< trace | debug | info | warning | error
};

struct Config {
  BaseConfig base;
  DeviceConfig device;
  EncoderConfig encoder;
  RoutingOptions routing;      ///< routing.slots is the size of the pool
  FragilityOptions eviction;
  LoraConfig lora;
  TrainConfig train;
  CommitConfig commit;
  GatewayConfig gateway;
  StoreConfig store;
  AdminConfig admin;
  EngineConfig engine;
  MemoryConfig memory;
  LogConfig log;
};

}  // namespace kpool
