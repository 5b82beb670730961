// The same steps on CUDA as on the CPU. A file of its own, so that ctest shows it as skipped where there is no device
// (tests/CMakeLists.txt).
#include "tests/step_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;

TEST_CASE("CUDA trains, scores and embeds as the CPU does", "[library][cuda]") {
  use_threads(2);
  if (const auto cuda = try_load({}, {.device = "cuda"}); !cuda) {
    WARN("SKIPPED, CUDA was not tested: " << cuda.error().message);
    return;
  }
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const TinyModel& model : kStepModels)
      for (const Kept kept : kEveryKept) {
        if (kept == Kept::mixed && model.layers < 3) continue;
        INFO(model.architecture << ", " << name(dtype) << ", kept " << static_cast<int>(kept));
        const auto host = load(model, {.precision = name(dtype), .library = true});
        const auto device = load(model, {.precision = name(dtype), .device = "cuda"});
        Workspace on_host = make_workspace(host->weights()), on_device = make_workspace(device->weights());
        const Outcome expected = train(*host, on_host, kept), measured = train(*device, on_device, kept);
        CHECK(measured.nats.is_cuda());
        CHECK(error(measured.nats, expected.nats) <= bound(dtype));
        CHECK(error(measured.gradient, expected.gradient) <= bound(dtype));
        const std::vector<std::int32_t> tokens{5, 200, 31, 7, 7, 90};
        const Segment segments[] = {{tokens}};
        const auto embed = [&](const Base& base, Workspace& workspace) {
          return hidden_states(base.weights(), make_batch(base.weights(), segments), 2, nullptr, workspace);
        };
        CHECK(error(embed(*device, on_device), embed(*host, on_host)) <= bound(dtype));
      }
}
