// The store: round trip, atomicity, locks, reading beside a writer, snapshots, a full disk.
#include <sys/mount.h>

#include "storage/memory_store.hpp"
#include "tests/storage_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;

TEST_CASE("what is committed is loaded, also after reopening") {
  const Directory directory;
  for (const std::string kind : {"rocksdb", "memory"}) {
    auto store = open_store(kind, directory / "pool");
    REQUIRE(store);
    CHECK(loaded(**store).empty());
    const std::string large = noise(3 << 20, 5);
    must_commit(**store, {{"group", "1"}, {"empty", ""}, {"slot/0", large}, {"slot/1", "x"}});
    must_commit(**store, {{"group", "2"}}, {"slot/1", "never/there"});
    const Values expected = {{"group", "2"}, {"empty", ""}, {"slot/0", large}};
    CHECK(loaded(**store) == expected);
    if (kind == "memory") continue;
    store->reset();
    CHECK(loaded(*opened(directory / "pool")) == expected);
  }
}

TEST_CASE("an unknown kind of store is a configuration error") {
  const auto store = open_store("sqlite", "/nowhere");
  REQUIRE_FALSE(store);
  CHECK(store.error().fault == Fault::bad_config);
  CHECK(store.error().message == "store.kind is \"sqlite\"; it must be rocksdb or memory");
}

TEST_CASE("memory and disk stay bounded over many commits of the same keys") {
  const Directory directory;
  const auto store = opened(directory / "pool");
  const std::string megabyte = noise(1 << 20, 3);
  for (int group = 0; group < 300; ++group)
    must_commit(*store, {{"slot/" + std::to_string(group % 3), megabyte}, {"group", std::to_string(group)}});
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory.root)) {
    CHECK(entry.path().filename().string().rfind("LOG", 0) == std::string::npos);
    if (entry.is_regular_file() && entry.path().filename() != "ballast") bytes += entry.file_size();
  }
  CHECK(bytes < (250u << 20));
  CHECK(loaded(*store).size() == 4);
}

TEST_CASE("a commit takes its values, unless there is no room for it") {
  const Directory directory;
  std::uint64_t left = 40u << 20;  // enough to open
  RocksdbOptions options;
  options.measure = [&](const std::string&) -> Result<std::uint64_t> { return left; };
  const auto store = opened(directory / "pool", options);
  Values puts = {{"group", "1"}, {"slot/0", noise(9 << 20, 1)}};
  const Values kept = puts;
  CHECK(store->commit(std::move(puts), {}).error().fault == Fault::no_space);
  CHECK(puts == kept);
  left = std::uint64_t{1} << 40;
  REQUIRE(store->commit(std::move(puts), {}));
  CHECK(puts.empty());
  CHECK(loaded(*store) == kept);
}

TEST_CASE("one process holds the store; the next is told which") {
  const Directory directory;
  const auto first = opened(directory / "pool");
  const auto second = open_rocksdb(directory / "pool");
  REQUIRE_FALSE(second);
  CHECK(second.error().fault == Fault::unavailable);
  CHECK(second.error().message == "store " + (directory / "pool") + " is held by another process");
}

TEST_CASE("a store is read while it is held, and never written by the reader") {
  const Directory directory;
  const auto writer = opened(directory / "pool");
  must_commit(*writer, {{"group", "1"}});
  auto reader = open_store_read_only(directory / "pool");
  REQUIRE(reader);
  CHECK(loaded(**reader) == Values{{"group", "1"}});
  const Status written = (*reader)->commit({{"group", "9"}}, {});
  REQUIRE_FALSE(written);
  CHECK(written.error().fault == Fault::denied);
  must_commit(*writer, {{"group", "2"}});
  CHECK(loaded(**reader) == Values{{"group", "1"}});
  CHECK(loaded(*writer) == Values{{"group", "2"}});
}

TEST_CASE("reading what is not there says so") {
  const Directory directory;
  for (const std::string& path : {directory / "absent", directory.root.string()}) {
    const auto store = open_store_read_only(path);
    REQUIRE_FALSE(store);
    CHECK(store.error().fault == Fault::missing);
    CHECK(store.error().message.find(path) != std::string::npos);
  }
}

TEST_CASE("a snapshot is whole, independent, and readable") {
  const Directory directory;
  const auto store = opened(directory / "pool");
  must_commit(*store, {{"group", "1"}, {"slot/0", noise(100000, 1)}});
  fs::create_directories(directory / "copy.partial/left over");
  REQUIRE(store->snapshot(directory / "copy"));
  must_commit(*store, {{"group", "2"}}, {"slot/0"});
  CHECK_FALSE(fs::exists(directory / "copy.partial"));
  auto copy = open_store_read_only(directory / "copy");
  REQUIRE(copy);
  CHECK(loaded(**copy) == Values{{"group", "1"}, {"slot/0", noise(100000, 1)}});
  const Status again = store->snapshot(directory / "copy");
  REQUIRE_FALSE(again);
  CHECK(again.error().fault == Fault::unavailable);
  CHECK(make_memory_store()->snapshot(directory / "other").error().fault == Fault::unavailable);
  CHECK(loaded(*opened(directory / "copy")).at("group") == "1");
}

TEST_CASE("below the guard nothing is written, and commits go on when space returns") {
  const Directory directory;
  std::uint64_t left = std::uint64_t{1} << 40;
  RocksdbOptions options;
  options.measure = [&](const std::string&) -> Result<std::uint64_t> { return left; };
  const auto store = opened(directory / "pool", options);
  must_commit(*store, {{"group", "1"}});
  left = 70u << 20;
  const Status refused = store->commit({{"group", "2"}, {"slot/0", noise(2 << 20, 1)}}, {});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().fault == Fault::no_space);
  CHECK(refused.error().message.find("has 70 MiB left") != std::string::npos);
  CHECK(refused.error().message.find(directory / "pool") != std::string::npos);
  CHECK(loaded(*store) == Values{{"group", "1"}});
  left = 60u << 20;
  CHECK(store->snapshot(directory / "copy").error().fault == Fault::no_space);
  left = std::uint64_t{1} << 40;
  must_commit(*store, {{"group", "2"}});
  CHECK(loaded(*store) == Values{{"group", "2"}});
}

TEST_CASE("the ballast is given up to open a store on a full disk") {
  const Directory directory;
  const std::string ballast = directory / "pool/ballast";
  RocksdbOptions options;
  options.measure = [&](const std::string&) -> Result<std::uint64_t> { return std::uint64_t{1} << 40; };
  must_commit(*opened(directory / "pool", options), {{"group", "1"}});
  REQUIRE(fs::file_size(ballast) == options.ballast_bytes);
  options.measure = [&](const std::string&) -> Result<std::uint64_t> {
    return fs::exists(ballast) ? 1u << 20 : 33u << 20;
  };
  auto store = opened(directory / "pool", options);
  CHECK_FALSE(fs::exists(ballast));
  CHECK(loaded(*store) == Values{{"group", "1"}});
  store.reset();
  options.measure = [&](const std::string&) -> Result<std::uint64_t> { return 1u << 20; };
  const auto refused = open_rocksdb(directory / "pool", options);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().fault == Fault::no_space);
}

TEST_CASE("on a real small disk the guard speaks before RocksDB meets the end") {
  const Directory directory;
  const std::string disk = directory / "disk";
  fs::create_directories(disk);
  if (::geteuid() != 0 || ::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=160m") != 0) {
    WARN("no right to mount a tmpfs: only the injected measure was tested");
    return;
  }
  {
    const auto store = opened(disk + "/pool");
    Values kept;
    Status status = Done{};
    for (int group = 0; status && group < 100; ++group) {
      const Values puts = {{"slot/" + std::to_string(group), noise(2 << 20, static_cast<unsigned>(group))}};
      status = store->commit(puts, {});
      if (status) kept.insert(puts.begin(), puts.end());
    }
    REQUIRE_FALSE(status);
    CHECK(status.error().fault == Fault::no_space);
    CHECK(kept.size() > 3);
    CHECK(loaded(*store) == kept);
  }
  CHECK(loaded(*opened(disk + "/pool")).size() > 3);
  CHECK(::umount2(disk.c_str(), MNT_DETACH) == 0);
}
