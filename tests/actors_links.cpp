// The edge table and the three transports.
#include <catch2/catch.hpp>

#include <set>

#include "actors/door.hpp"
#include "actors/links.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;

TEST_CASE("a transport is read strictly") {
  CHECK(parse_transport("inproc")->kind == "inproc");
  CHECK(parse_transport("ipc:/run/kpool")->directory == "/run/kpool");
  const auto tcp = parse_transport("tcp:127.0.0.1:9000");
  REQUIRE(tcp);
  CHECK(tcp->host == "127.0.0.1");
  CHECK(tcp->first_port == 9000);
  CHECK(parse_transport("tcp:[::1]:9000")->host == "[::1]");
  for (const char* wrong : {"", "inproc:x", "ipc", "ipc:", "tcp:", "tcp:host", "tcp::9000", "tcp:host:", "tcp:host:0",
                            "tcp:host:9x", "tcp:host:-1", "tcp:host:65530", "udp:host:1", "IPC:/run"}) {
    INFO(wrong);
    const auto transport = parse_transport(wrong);
    REQUIRE_FALSE(transport);
    CHECK(transport.error().fault == Fault::bad_config);
    CHECK(transport.error().message == "engine.transport is '" + std::string(wrong) +
                                           "', but must be inproc, ipc:<directory> or tcp:<host>:<first port>");
  }
}

TEST_CASE("every input has an endpoint of its own") {
  for (const char* text : {"inproc", "ipc:/run/kpool", "tcp:127.0.0.1:9000"}) {
    std::set<std::string> endpoints;
    for (std::size_t i = 0; i < stage_count; ++i)
      for (const Lane lane : {Lane::records, Lane::control})
        endpoints.insert(endpoint(*parse_transport(text), static_cast<StageId>(i), lane));
    CHECK(endpoints.size() == 2 * stage_count);
  }
}

TEST_CASE("records run forward only, so what presses back cannot close a circle") {
  for (const Edge& edge : edges)
    if (edge.lane == Lane::records) CHECK(edge.from < edge.to);
}

TEST_CASE("an endpoint that cannot be bound is named") {
  zmq::context_t context;
  const auto links = bind_links(context, *parse_transport("ipc:/no/such/directory"), StageId::training);
  REQUIRE_FALSE(links);
  CHECK(links.error().fault == Fault::unavailable);
  CHECK(links.error().message ==
        "training cannot listen on ipc:///no/such/directory/training.records: No such file or directory");
}

TEST_CASE("what goes in at one end of an edge comes out at the other") {
  const kpool::testing::TemporaryDirectory directory;
  for (const std::string text : {std::string("inproc"), "ipc:" + directory.path()}) {
    zmq::context_t context;
    const auto transport = *parse_transport(text);
    auto training = bind_links(context, transport, StageId::training);
    auto persistence = bind_links(context, transport, StageId::persistence);
    auto fragility = bind_links(context, transport, StageId::fragility);
    auto serving = bind_links(context, transport, StageId::serving);
    REQUIRE((training && persistence && fragility && serving));
    connect_links(context, transport, StageId::training, *training);
    connect_links(context, transport, StageId::persistence, *persistence);
    CHECK(training->outputs.size() == 3);
    REQUIRE(training->outputs.at(StageId::fragility).send(zmq::buffer("forward", 7)));
    REQUIRE(persistence->outputs.at(StageId::training).send(zmq::buffer("back", 4)));
    zmq::message_t message;
    REQUIRE(fragility->records.recv(message));
    CHECK(message.to_string() == "forward");
    REQUIRE(training->control.recv(message));
    CHECK(message.to_string() == "back");
  }
}
