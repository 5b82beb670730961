// What a configuration asks for must fit into the frames between stages, or be refused when it is loaded.
#include "actors/models.hpp"

#include <catch2/catch.hpp>

#include "messages/pipeline.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

const BaseShape smollm2_135m{"llama", 30, 576, 9, 3, 64, 1536, 49152, 8192};

Config config_of(std::uint32_t rank, std::uint32_t slots, const std::string& covariance = "tied") {
  Config config;
  config.lora.rank = rank;
  config.train.momentum_type = "float32";
  config.routing.slots = slots;
  config.routing.covariance = covariance;
  return config;
}

std::string refusal(const Config& config, std::size_t width = 576) {
  const auto fits = check_part_sizes(config, smollm2_135m, width);
  if (fits) return "";
  CHECK(fits.error().fault == Fault::bad_config);
  return fits.error().message;
}

}  // namespace

TEST_CASE("the sizes that are foreseen are those that are saved") {
  const TemporaryDirectory directory;
  write_tiny_model({}, directory.file("tiny.gguf"));
  auto base = Base::load({directory.file("tiny.gguf")});
  REQUIRE(base);
  constexpr std::size_t header = 1u << 20;
  for (const MomentumType type : {MomentumType::float32, MomentumType::bfloat16})
    for (const std::uint32_t rank : {1, 64, 256}) {
      LearnerOptions options;
      options.rank = rank;
      options.momentum_type = type;
      auto learner = make_learner(options, *base);
      learner->open({0, 1, false});
      const std::size_t saved = learner->save(0).size(), foreseen = slot_bytes((*base)->shape(), rank, type);
      CHECK((saved >= foreseen && saved < foreseen + header));
    }
  for (const char* covariance : {"tied", "diagonal"})
    for (const std::size_t width : {16, 576}) {
      const RoutingOptions options = config_of(8, 1, covariance).routing;
      auto router = make_router(options, width);
      std::vector<float> x(width);
      for (std::size_t i = 0; i < 2 * width; ++i) {  // so many that the slot lives and the covariance is there
        for (std::size_t j = 0; j < width; ++j) x[j] = static_cast<float>((i * 7919 + j * 104729) % 1009) / 1009;
        router->route(i, x);
      }
      router->barrier();
      const std::size_t saved = router->save().size(), foreseen = mixture_bytes(options, width);
      CHECK(saved < foreseen + header);
      CHECK(saved > foreseen * 9 / 10 - 256);
    }
}

TEST_CASE("a rank whose slots fit into no frame is refused, and the one named instead fits") {
  CHECK(refusal(config_of(8, 5)).empty());
  CHECK(refusal(config_of(128, 5)) ==
        "lora.rank = 128 makes a slot of 312606720 bytes, more than the 267386880 that one part of a commit may have; "
        "at most 109 will do with this base model");
  CHECK(refusal(config_of(109, 5)).empty());
  CHECK(refusal(config_of(110, 5)).starts_with("lora.rank = 110 "));
  Config elsewhere = config_of(128, 5);
  elsewhere.engine.stages = {"routing"};
  CHECK(refusal(elsewhere).empty());
}

TEST_CASE("an adapter on more layers than the base model has is refused, naming both numbers") {
  Config config = config_of(8, 5);
  config.lora.layers = 30;
  CHECK(refusal(config).empty());
  config.lora.layers = 31;
  CHECK(refusal(config) == "lora.layers = 31 is more than the base model has, 30");
  config.engine.stages = {"routing"};
  CHECK(refusal(config).empty());
  config = config_of(128, 5);
  config.lora.layers = 15;  // half the layers, half the bytes: this rank fits again
  CHECK(refusal(config).empty());
}

TEST_CASE("a learning rate of auto guards itself, from a learner's own start") {
  Config config;
  CHECK(learner_options(config).learning_rate == 5e-4);
  CHECK(learner_options(config).rate_guard == RateGuardMode::off);
  config.train.learning_rate.reset();
  CHECK(learner_options(config).learning_rate == LearnerOptions{}.learning_rate);
  CHECK(learner_options(config).rate_guard == RateGuardMode::automatic);
}

TEST_CASE("so many slots that the mixture fits into no frame are refused") {
  CHECK(refusal(config_of(8, 100)).empty());
  const std::string message = refusal(config_of(8, 1024));
  CHECK(message.starts_with("routing.slots = 1024 makes a mixture of 42"));
  CHECK(message.ends_with("with this encoder and routing.covariance = tied"));
  const auto at = message.find("at most ") + 8;
  const auto most = static_cast<std::uint32_t>(std::stoul(message.substr(at)));
  CHECK(refusal(config_of(8, most)).empty());
  CHECK_FALSE(refusal(config_of(8, most + 1)).empty());
  CHECK(refusal(config_of(8, 1024, "diagonal")).empty());
}

TEST_CASE("loading the parts refuses what will not fit, before anything is learned") {
  const TemporaryDirectory directory;
  TinyModel model;
  model.hidden = 64;
  model.layers = 200;  // many and narrow: a small file with a large adapter
  model.ffn = 128;
  write_tiny_model(model, directory.file("deep.gguf"));
  Config config = config_of(256, 1);
  config.base.path = directory.file("deep.gguf");
  config.encoder.kind = "base:1";
  const auto parts = load_parts(config);
  REQUIRE_FALSE(parts);
  CHECK(parts.error().fault == Fault::bad_config);
  CHECK(parts.error().message.starts_with("lora.rank = 256 makes a slot of "));
}
