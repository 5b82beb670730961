// A tiny pool for the tests of kpoolctl: a model of random weights, a store in which two slots have learned
// a little, and its values. Owned by one test case.
#pragma once

#include <catch2/catch.hpp>

#include <string>

#include <nlohmann/json.hpp>

#include "core/encoder.hpp"
#include "core/fragility.hpp"
#include "core/ledger.hpp"
#include "core/learner.hpp"
#include "core/router.hpp"
#include "storage/store.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

namespace kpool::testing {

inline const char* const first_text = "the cat and the dog sat in the sun and then ran on";
inline const char* const second_text = "0123456789 +-*/ 0123456789 +-*/ 0123456789 +-*/ 0123";

template <class T>
T must(Result<T> result) {
  if (!result) FAIL(result.error().message);
  return *std::move(result);
}

struct TinyPool {
  TinyPool() {
    write_tiny_model({}, model);
    base = must(Base::load({model, "float32", -1}));
    EncoderOptions encoding;
    encoding.kind = "base:1";
    encoder = must(make_encoder(encoding, base));
    fill();
    auto store = must(open_store("rocksdb", path));
    must(store->commit(values, {}));
  }

  EncodedRecord encode(const std::string& text) const {
    std::vector<Record> one(1);
    one[0].text = text;
    return std::get<EncodedRecord>(encoder->encode(std::move(one)).front());
  }

  /// Slot 0 learns the first text, slot 1 the second; the router knows them by as many embeddings.
  void fill() {
    LearnerOptions options;
    options.rank = 2;
    options.tokens_per_step = 64;
    options.learning_rate = 0.02;
    options.threads = 1;
    auto learner = make_learner(options, base);
    for (std::uint32_t slot : {0u, 1u}) {
      learner->open({slot, slot + 1, false});
      const auto record = encode(slot == 0 ? first_text : second_text);
      for (int i = 0; i < 12; ++i) learner->learn(slot, {record.origin, 0, record.tokens});
    }
    learner->flush();
    for (std::uint32_t slot : {0u, 1u}) values["slot/" + std::to_string(slot)] = learner->save(slot);
    auto router = make_router(RoutingOptions{}, encoder->width());
    for (Ticket i = 0; i < 64; ++i)
      router->route(i, encode(first_text + std::string(i % 8, ' ') + std::to_string(i)).embedding);
    router->barrier();
    values["mixture"] = router->save();
    Fragility fragility({});
    fragility.on_birth({0, 1, false});
    fragility.on_birth({1, 2, false});
    values["fragility"] = fragility.save();
    values["regret"] = RegretLedger(5, 100).save();
    values["routing"] = R"({"slots":[[1,64],[2,0],[0,0],[0,0],[0,0]],"births":2,"evictions":0})";
    values["source/0"] = R"({"key":"k","epoch":1,"watermark":64})";
    values["refusals/3"] = "[[0,7,1]]";
    values["group"] = "3";
    const std::string identity = "base " + base->fingerprint().substr(0, 16);
    values["identity/encoding"] = identity + ", encoder " + encoder_identity("base:1");
    values["identity/training"] = identity + ", rank 2, 5 slots";
  }

  TemporaryDirectory directory;
  const std::string model = directory.file("tiny.gguf"), path = directory.file("store");
  std::shared_ptr<const Base> base;
  std::unique_ptr<Encoder> encoder;
  Values values;
};

}  // namespace kpool::testing
