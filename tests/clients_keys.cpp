#include "clients/keys.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

using namespace kpool;
namespace fs = std::filesystem;

namespace {

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/kpool_keys_XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Directory() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(path + "/" + name) << text;
    ::chmod((path + "/" + name).c_str(), mode);
    return path + "/" + name;
  }
  std::string path;
};

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

}  // namespace

TEST_CASE("new keys are written for their owner alone and read back") {
  Directory directory;
  auto made = create_keys(directory.path + "/new", "alice");
  REQUIRE(made);
  CHECK(mode_of(directory.path + "/new/alice.key") == 0600);
  auto read = read_keys(directory.path + "/new/alice.key");
  REQUIRE(read);
  CHECK((read->public_key == made->public_key && read->secret_key == made->secret_key));
  auto other = create_keys(directory.path + "/new", "bob");
  REQUIRE(other);
  CHECK(other->public_key != made->public_key);
}

TEST_CASE("a key is never overwritten, and its name is no path") {
  Directory directory;
  auto first = create_keys(directory.path, "a");
  REQUIRE(first);
  auto again = create_keys(directory.path, "a");
  REQUIRE_FALSE(again);
  CHECK(again.error().message.find("exists already") != std::string::npos);
  CHECK(read_keys(directory.path + "/a.key")->secret_key == first->secret_key);
  for (const char* name : {"", "a/b", "a b", "#a"}) CHECK_FALSE(create_keys(directory.path, name));
}

TEST_CASE("a secret key that others may read is refused") {
  Directory directory;
  REQUIRE(create_keys(directory.path, "a"));
  for (const mode_t mode : {0640, 0604, 0660}) {
    ::chmod((directory.path + "/a.key").c_str(), mode);
    auto read = read_keys(directory.path + "/a.key");
    REQUIRE_FALSE(read);
    CHECK(read.error().fault == Fault::denied);
    CHECK(read.error().message.find("chmod 600") != std::string::npos);
  }
  ::chmod((directory.path + "/a.key").c_str(), 0400);
  CHECK(read_keys(directory.path + "/a.key"));
}

TEST_CASE("a credential of systemd may look group-readable, and only there") {
  Directory directory;
  REQUIRE(create_keys(directory.path, "a"));
  const std::string path = directory.path + "/a.key";
  ::chmod(path.c_str(), 0440);
  ::setenv("CREDENTIALS_DIRECTORY", directory.path.c_str(), 1);
  CHECK(read_keys(path));
  ::chmod(path.c_str(), 0444);
  CHECK(read_keys(path).error().fault == Fault::denied);
  ::chmod(path.c_str(), 0440);
  ::setenv("CREDENTIALS_DIRECTORY", "/elsewhere", 1);
  CHECK(read_keys(path).error().fault == Fault::denied);
  ::unsetenv("CREDENTIALS_DIRECTORY");
}

TEST_CASE("what is no secret key is called what it is, whatever its mode") {
  Directory directory;
  REQUIRE(create_keys(directory.path, "a"));
  fs::create_directory(directory.path + "/d");
  const auto error = [&](const std::string& name) {
    auto read = read_keys(directory.path + name);
    REQUIRE_FALSE(read);
    CHECK(read.error().fault == Fault::bad_input);
    const std::string message = read.error().message.substr(directory.path.size());
    CHECK(message.ends_with("; a secret key is a file NAME.key that `kpoolctl keys new` makes"));
    return message.substr(0, message.find(';'));
  };
  CHECK(error("/d") == "/d: is a directory");
  CHECK(error("/a.pub") == "/a.pub: holds a public key alone");
  ::chmod((directory.path + "/a.pub").c_str(), 0600);
  CHECK(error("/a.pub") == "/a.pub: holds a public key alone");
  directory.write("note", "hello\n", 0644);
  CHECK(error("/note") == "/note: holds no secret key");
  REQUIRE(::mkfifo((directory.path + "/pipe").c_str(), 0600) == 0);
  CHECK(error("/pipe") == "/pipe: is no regular file");
}

TEST_CASE("a missing or damaged key file is named") {
  Directory directory;
  CHECK(read_keys(directory.path + "/none.key").error().fault == Fault::missing);
  CHECK(read_keys(directory.write("empty.key", "")).error().fault == Fault::bad_input);
  CHECK(read_keys(directory.write("text.key", "hello")).error().fault == Fault::bad_input);
  auto a = create_keys(directory.path, "a");
  auto b = create_keys(directory.path, "b");
  REQUIRE((a && b));
  auto mixed = read_keys(directory.write("m.key", "public " + a->public_key + "\nsecret " + b->secret_key + "\n"));
  REQUIRE_FALSE(mixed);
  CHECK(mixed.error().message.find("does not belong") != std::string::npos);
  auto shorter = read_keys(directory.write("s.key", "public " + a->public_key + "\nsecret " +
                                                        a->secret_key.substr(1) + "\n"));
  CHECK_FALSE(shorter);
}

TEST_CASE("a public key is a file or the key itself") {
  Directory directory;
  auto keys = create_keys(directory.path, "a");
  REQUIRE(keys);
  CHECK(*read_public_key(directory.path + "/a.pub") == keys->public_key);
  CHECK(*read_public_key(directory.path + "/a.key") == keys->public_key);
  CHECK(*read_public_key(keys->public_key) == keys->public_key);
  CHECK(read_public_key("no/such/file").error().fault == Fault::missing);
  CHECK(read_public_key(directory.write("x", "x\n")).error().fault == Fault::bad_input);
}

TEST_CASE("the list of authorized keys maps keys to names, and errors name the line") {
  Directory directory;
  auto a = create_keys(directory.path, "a");
  auto b = create_keys(directory.path, "b");
  REQUIRE((a && b));
  auto names = read_authorized_keys(
      directory.write("ok", "# who may connect\n\nalice " + a->public_key + "\n  bob\t" + b->public_key + "\n"));
  REQUIRE(names);
  CHECK(*names == std::map<std::string, std::string>{{a->public_key, "alice"}, {b->public_key, "bob"}});
  const auto error = [&](const std::string& text) {
    auto result = read_authorized_keys(directory.write("bad", text));
    REQUIRE_FALSE(result);
    return result.error().message.substr(directory.path.size());
  };
  CHECK(error("#\nalice\n") == "/bad:2: not of the form \"name public-key\"");
  CHECK(error("alice " + a->public_key + " more\n").starts_with("/bad:1: not of the form"));
  CHECK(error("alice short\n") == "/bad:1: the key of \"alice\" is not 40 characters of Z85");
  CHECK(error("x " + a->public_key + "\ny " + a->public_key + "\n") ==
        "/bad:2: the key of \"y\" was already given to \"x\"");
  CHECK(read_authorized_keys(directory.path + "/none").error().fault == Fault::missing);
}
