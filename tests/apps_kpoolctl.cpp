// The built program itself: every command's exit code and one sentence on bad input.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "core/result.hpp"
#include "tests/temporary_directory.hpp"
#include "tests/tiny_model.hpp"

using namespace kpool;

namespace {

struct Ran {
  int code = -1;
  std::string out, error;
};

class Program {
 public:
  Ran run(std::vector<std::string> words, const std::string& input = "") const {
    std::ofstream(directory.file("in")) << input;
    words.insert(words.begin(), KPOOL_BINARY_DIR "/kpoolctl");
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      redirect("in", O_RDONLY, STDIN_FILENO);
      redirect("out", O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
      redirect("error", O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
      ::execv(arguments[0], arguments.data());
      ::_exit(127);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read("out"), read("error")};
  }
  testing::TemporaryDirectory directory;

 private:
  void redirect(const char* name, int flags, int onto) const {
    const int fd = ::open(directory.file(name).c_str(), flags, 0600);
    if (fd < 0 || ::dup2(fd, onto) < 0) ::_exit(126);
  }
  std::string read(const char* name) const {
    std::stringstream text;
    text << std::ifstream(directory.file(name)).rdbuf();
    return text.str();
  }
};

}  // namespace

TEST_CASE("every command has help, and a wrong command line is a usage error") {
  Program program;
  const std::vector<std::vector<std::string>> commands = {
      {"status"}, {"snapshot"}, {"verify"}, {"export"}, {"keys"}, {"keys", "new"}, {"keys", "show"}, {"model"},
      {"model", "info"}, {"model", "tokenize"}, {"model", "embed"}, {"model", "score"}};
  for (auto words : commands) {
    words.push_back("--help");
    const Ran ran = program.run(words);
    CHECK(ran.code == 0);
    CHECK(ran.out.find("Usage:") != std::string::npos);
    words.back() = "--nonsense";
    CHECK(program.run(words).code == 64);
  }
  CHECK(program.run({}).code == 64);
  CHECK(program.run({"--version"}).out.starts_with("kpoolctl "));
}

TEST_CASE("bad input gives each command's exit code and one sentence") {
  Program program;
  const std::string none = program.directory.file("none");
  const auto check = [&](std::vector<std::string> words, Fault fault) {
    const Ran ran = program.run(std::move(words));
    INFO(ran.error);
    CHECK(ran.code == exit_code(fault));
    CHECK(ran.error.starts_with("kpoolctl: "));
    CHECK(ran.error.find('\n') == ran.error.size() - 1);
    CHECK(ran.out.empty());
  };
  check({"status", "--socket", "ipc://" + none}, Fault::unavailable);
  check({"snapshot", "x", "--socket", "ipc://" + none}, Fault::unavailable);
  check({"verify", none}, Fault::missing);
  check({"export", "0", none, "--store", none}, Fault::missing);
  check({"keys", "show", none}, Fault::missing);
  check({"keys", "new", program.directory.path(), "a/b"}, Fault::bad_input);
  check({"model", "info", "--model", none}, Fault::missing);
  check({"model", "tokenize", "--model", none}, Fault::missing);
  check({"model", "embed", "--model", none}, Fault::missing);
  check({"model", "score", "--model", none}, Fault::missing);
}

TEST_CASE("keys are made once and shown without the secret") {
  Program program;
  const Ran made = program.run({"keys", "new", program.directory.path(), "g"});
  CHECK(made.code == 0);
  const Ran shown = program.run({"keys", "show", program.directory.file("g.key")});
  REQUIRE(shown.out.size() == 41);
  CHECK(made.out.find("g " + shown.out) != std::string::npos);
  std::ofstream(program.directory.file("authorized")) << "g " << shown.out;
  CHECK(program.run({"keys", "show", program.directory.file("authorized")}).out == "g " + shown.out);
  CHECK(program.run({"keys", "new", program.directory.path(), "g"}).code == exit_code(Fault::bad_input));
}

TEST_CASE("lines go through the program, and broken ones make it end with 65") {
  Program program;
  const std::string model = program.directory.file("tiny.gguf");
  testing::write_tiny_model({}, model);
  const std::string input = "{\"text\":\"the\",\"n\":1}\nbroken\n";
  const Ran ran = program.run({"model", "tokenize", "--model", model, "--quiet"}, input);
  CHECK(ran.code == 65);
  CHECK(ran.out.starts_with("{\"n\":1,\"ids\":["));
  CHECK(ran.error.starts_with("standard input:2: broken JSON at byte 1\nkpoolctl: 1 line was left out"));
  CHECK(program.run({"model", "score", "--model", model, "--quiet"}, "{\"text\":\"the cat\"}\n").code == 0);
}
