// Damage to the store: flipped bytes, torn logs, lost files, values under another key.
#include <fstream>

#include "storage/value.hpp"
#include "tests/storage_fixture.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

void flip(const fs::path& file, std::uint64_t position) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(position));
  const char octet = static_cast<char>(stream.get() ^ 0x10);
  stream.seekp(static_cast<std::streamoff>(position));
  stream.put(octet);
}

/// A store of two commits, closed: its logs replayed into a table once, the second commit in the log.
void two_commits(const std::string& path) {
  must_commit(*opened(path), {{"group", "1"}, {"slot/0", noise(20000, 1)}, {"source/0", "17"}});
  must_commit(*opened(path), {{"group", "2"}, {"slot/0", noise(20000, 2)}});
}

const Values after_two = {{"group", "2"}, {"slot/0", noise(20000, 2)}, {"source/0", "17"}};

}  // namespace

TEST_CASE("a value is refused when it, its key or its format changes") {
  const ValueHeader header = value_header("slot/1", "weights");
  const std::string stored = std::string(header.data(), header.size()) + "weights";
  REQUIRE(open_value("slot/1", stored, "here"));
  CHECK(*open_value("slot/1", stored, "here") == "weights");
  CHECK_FALSE(open_value("slot/2", stored, "here"));
  for (std::size_t position = 0; position < stored.size(); ++position)
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = stored;
      damaged[position] = static_cast<char>(damaged[position] ^ (1 << bit));
      const auto value = open_value("slot/1", damaged, "here");
      REQUIRE_FALSE(value);
      REQUIRE(value.error().fault == Fault::bad_input);
    }
  for (std::size_t length = 0; length < stored.size(); ++length)
    REQUIRE_FALSE(open_value("slot/1", stored.substr(0, length), "here"));
  CHECK(open_value("slot/1", "\x02" + stored.substr(1), "here").error().message ==
        "store here: the value of \"slot/1\" has format 2, this program reads 1");
}

TEST_CASE("a flipped byte anywhere gives the committed state or an error, never other values") {
  const Directory directory;
  two_commits(directory / "pristine");
  std::mt19937 random(11);
  int refused = 0;
  for (const auto& entry : fs::directory_iterator(directory / "pristine")) {
    const auto size = entry.file_size();
    const std::string name = entry.path().filename().string();
    if (size == 0 || name == "ballast") continue;
    for (int trial = 0; trial < 12; ++trial) {
      const std::uint64_t position = random() % size;
      const std::string path = directory / "damaged";
      fs::remove_all(path);
      fs::copy(directory / "pristine", path);
      flip(path + "/" + name, position);
      CAPTURE(name, position);
      const auto store = open_rocksdb(path);
      const auto values = store ? (*store)->load() : Result<Values>(store.error());
      if (values) CHECK(*values == after_two);
      else CHECK((values.error().fault == Fault::bad_input && values.error().message.find(path) != std::string::npos));
      refused += !values;
    }
  }
  CHECK(refused > 20);
}

TEST_CASE("a torn tail of the log loses whole commits only") {
  const Directory directory;
  two_commits(directory / "pristine");
  fs::path log;
  for (const auto& entry : fs::directory_iterator(directory / "pristine"))
    if (entry.path().extension() == ".log" && entry.file_size() > 0) log = entry.path().filename();
  REQUIRE_FALSE(log.empty());
  const Values after_one = {{"group", "1"}, {"slot/0", noise(20000, 1)}, {"source/0", "17"}};
  const auto size = fs::file_size(directory.root / "pristine" / log);
  for (std::uintmax_t keep = 0; keep < size; keep += 997) {
    const std::string path = directory / "torn";
    fs::remove_all(path);
    fs::copy(directory / "pristine", path);
    fs::resize_file(fs::path(path) / log, keep);
    CAPTURE(keep, size);
    CHECK(loaded(*opened(path)) == after_one);
  }
}

TEST_CASE("lost files are damage, not a new store") {
  const Directory directory;
  two_commits(directory / "pool");
  fs::remove(directory / "pool/CURRENT");
  for (const auto& store : {open_rocksdb(directory / "pool"), open_store_read_only(directory / "pool")}) {
    REQUIRE_FALSE(store);
    CHECK(store.error().fault == Fault::bad_input);
    CHECK(store.error().message.find("no CURRENT") != std::string::npos);
  }
}
