#include "apps/kpoolctl_keys.hpp"

#include <filesystem>

#include "clients/keys.hpp"

namespace kpool {

Status new_keys(const std::string& directory, const std::string& name, std::ostream& out) {
  auto keys = create_keys(directory, name);
  if (!keys) return keys.error();
  const std::string path = (std::filesystem::path(directory) / name).string();
  out << "secret key: " << path << ".key (for its owner alone)\n"
      << "public key: " << path << ".pub\n"
      << keys->public_key << "\n"
      << "line for the daemon's gateway.authorized_keys_file:\n"
      << name << " " << keys->public_key << "\n";
  return Done{};
}

Status show_keys(const std::string& file, std::ostream& out) {
  if (file.ends_with(".key")) {
    auto keys = read_keys(file);
    if (!keys) return keys.error();
    out << keys->public_key << "\n";
    return Done{};
  }
  if (auto key = read_public_key(file)) {
    out << *key << "\n";
    return Done{};
  } else if (key.error().fault != Fault::bad_input) {
    return key.error();
  }
  auto names = read_authorized_keys(file);
  if (!names) return names.error();
  if (names->empty()) return Error{Fault::bad_input, file + ": holds no key"};
  for (const auto& [key, name] : *names) out << name << " " << key << "\n";
  return Done{};
}

}  // namespace kpool
