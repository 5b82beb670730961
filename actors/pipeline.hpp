// The wiring: which actors of the pipeline live in this process, and how they find each other.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "actors/encoding.hpp"
#include "actors/loop.hpp"
#include "actors/persistence.hpp"
#include "actors/stage.hpp"
#include "actors/supervisor.hpp"
#include "actors/training.hpp"
#include "clients/keys.hpp"
#include "config/config.hpp"

namespace kpool {

/// What stages are made of. The daemon fills it with the real model (models.hpp); a benchmark may
/// put other parts in.
struct Parts {
  MakeEncoder encoder;
  MakeLearner learner;
  OpenStore store;
  std::size_t embedding_width = 0;
  std::string encoder_identity, learner_identity;
};

/// What only this process's stages need: keys where it has a door, else empty.
struct Keys {
  KeyPair daemon;
  std::map<std::string, std::string> gateways;  ///< allow-list: public key -> name
};

bool has_stage(const Config& config, StageId id);

/// The loops of all stages in config.engine.stages (empty: every one), and the authenticator's.
/// Binds all sockets, the authenticator's first. Errors: unavailable, bad_config.
Result<std::vector<std::unique_ptr<Loop>>> build_pipeline(zmq::context_t& context, const Config& config,
                                                          const Keys& keys, const Parts& parts);

/// The loops as running actors under a supervisor. Owned by main.
class Running {
 public:
  /// notify: gets sd_notify's state texts. ended: called once on a thread of CAF's when all is over.
  Running(std::vector<std::unique_ptr<Loop>> loops, std::function<void(const char*)> notify,
          std::function<void()> ended);
  ~Running();
  /// Asks for an orderly stop: what was received is committed, within a few seconds. Any thread.
  void stop();
  /// Blocks until all actors are gone.
  Outcome wait();

 private:
  struct System;
  std::unique_ptr<System> system_;
};

}  // namespace kpool
