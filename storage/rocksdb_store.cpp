#include "storage/rocksdb_store.hpp"

#include <fcntl.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "storage/value.hpp"

namespace kpool {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t write_buffer_bytes = 8u << 20;
constexpr std::size_t batch_header_bytes = 12;

/// RocksDB's own log would grow beside the data and tell operators nothing that a Status does not.
class SilentLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::Options database_options() {
  rocksdb::Options options;
  options.create_if_missing = false;
  options.info_log = std::make_shared<SilentLog>();
  // A synced commit that is damaged in the log must be refused, not skipped with all that follows it
  // (the default mode); only the torn tail that was never acknowledged is dropped.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.paranoid_checks = true;
  options.paranoid_file_checks = true;
  options.max_bgerror_resume_count = 0;  // an error is never retried: the process restarts from disk
  // Weights do not compress. A commit that fills a memtable is flushed at once (RocksdbStore::write), so one that is
  // written and one that goes to disk are the most there are.
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = write_buffer_bytes;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 2;
  // Slots lie in files of their own, which go when no slot in them is the newest: compactions move references alone,
  // and need not hold and write several slots.
  options.enable_blob_files = true;
  options.min_blob_size = 64u << 10;
  options.enable_blob_garbage_collection = true;
  options.max_manifest_file_size = 4u << 20;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(8u << 20);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

bool names_lock(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return text.find("/LOCK") != std::string::npos || text.find("lock hold") != std::string::npos;
}

/// An error of opening, in our terms.
Error opening_error(const rocksdb::Status& status, const std::string& path) {
  if (status.IsIOError() && names_lock(status))
    return {Fault::unavailable, "store " + path + " is held by another process"};
  const bool lacks_file = status.IsPathNotFound() || status.IsNotFound();
  if (status.IsCorruption() || status.IsInvalidArgument() || lacks_file)
    return {Fault::bad_input, "store " + path + " is damaged: " + status.ToString()};
  if (status.IsNoSpace()) return {Fault::no_space, "store " + path + ": the disk is full: " + status.ToString()};
  return {Fault::io, "store " + path + " cannot be opened: " + status.ToString()};
}

std::string ballast_file(const std::string& path) { return path + "/ballast"; }

/// Bytes of logs that opening would replay and write anew.
std::uint64_t log_bytes(const std::string& path) {
  std::uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(path, ignored))
    if (entry.path().extension() == ".log") bytes += entry.file_size(ignored);
  return bytes;
}

/// A directory without CURRENT is new, unless there is data in it: then CURRENT was lost, and creating a
/// store would silently start from nothing.
Result<bool> holds_store(const std::string& path) {
  if (fs::exists(path + "/CURRENT")) return true;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(path, failure)) {
    const std::string extension = entry.path().extension();
    if (extension == ".sst" || extension == ".blob" || extension == ".log")
      return Error{Fault::bad_input, "store " + path + " is damaged: it holds " +
                                         entry.path().filename().string() + " but no CURRENT"};
  }
  if (failure) return Error{Fault::io, "cannot read the store's directory " + path + ": " + failure.message()};
  return false;
}

Status make_directory(const std::string& path) {
  std::error_code failure;
  if (fs::is_directory(path, failure)) return Done{};
  fs::create_directories(path, failure);
  if (!failure) fs::permissions(path, fs::perms::owner_all, failure);
  if (failure) return Error{Fault::io, "cannot create the store's directory " + path + ": " + failure.message()};
  return Done{};
}

Status sync_directory(const fs::path& directory) {
  const int file = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = file >= 0 && ::fsync(file) == 0;
  if (file >= 0) ::close(file);
  if (!synced) return Error{Fault::io, "cannot sync the directory " + directory.string()};
  return Done{};
}

class RocksdbStore final : public Store {
 public:
  RocksdbStore(std::string path, RocksdbOptions options, bool writable, std::unique_ptr<rocksdb::DB> database)
      : path_(std::move(path)), options_(std::move(options)), writable_(writable), database_(std::move(database)) {}

  Result<Values> load() const override {
    rocksdb::ReadOptions reading;
    reading.verify_checksums = true;
    reading.fill_cache = false;
    const std::unique_ptr<rocksdb::Iterator> cursor(database_->NewIterator(reading));
    Values values;
    for (cursor->SeekToFirst(); cursor->Valid(); cursor->Next()) {
      const std::string key = cursor->key().ToString();
      Result<std::string> value = open_value(key, cursor->value().ToStringView(), path_);
      if (!value) return value.error();
      values.emplace(key, *std::move(value));
    }
    const rocksdb::Status status = cursor->status();
    if (status.IsCorruption()) return Error{Fault::bad_input, "store " + path_ + " is damaged: " + status.ToString()};
    if (!status.ok()) return Error{Fault::io, "store " + path_ + " cannot be read: " + status.ToString()};
    return values;
  }

  using Store::commit;
  Status commit(Values&& puts, const std::vector<std::string>& deletes) override {
    if (!writable_) return Error{Fault::denied, "store " + path_ + " was opened for reading only"};
    if (!failure_.empty())
      return Error{Fault::io, "store " + path_ + " failed before and must be reopened: " + failure_};
    std::uint64_t bytes = 0;
    for (const auto& [key, value] : puts) bytes += record_bytes(key, value);
    // Log, table, and one compaction's copy of both; then all that lies there already, merged anew.
    if (Status room = require_space(options_.measure, path_, 4 * bytes + table_bytes() + options_.reserve_bytes); !room)
      return room;
    return write(std::move(puts), deletes, bytes);
  }

  Status snapshot(const std::string& directory) const override {
    if (!writable_) return Error{Fault::unavailable, "store " + path_ + " is open for reading only: copy it instead"};
    std::error_code failure;
    if (fs::exists(directory, failure))
      return Error{Fault::unavailable, "snapshot " + directory + " exists already: choose another name"};
    const fs::path parent = fs::absolute(directory).parent_path();
    const std::uint64_t needed = 2 * (table_bytes() + log_bytes(path_)) + options_.reserve_bytes;
    if (Status room = require_space(options_.measure, parent, needed); !room) return room;
    return copy_to(directory, parent);
  }

 private:
  std::uint64_t table_bytes() const {
    return property(rocksdb::DB::Properties::kTotalSstFilesSize) +
           property(rocksdb::DB::Properties::kTotalBlobFileSize);
  }

  static std::uint64_t record_bytes(const std::string& key, const std::string& value) {
    constexpr std::uint64_t lengths = 16;  // at most, of both, and a mark
    return lengths + key.size() + value_header_bytes + value.size();
  }

  std::uint64_t property(const std::string& name) const {
    std::uint64_t value = 0;
    database_->GetIntProperty(name, &value);
    return value;
  }

  /// bytes: of all puts, so that the batch never grows by copying.
  Status write(Values&& puts, const std::vector<std::string>& deletes, std::uint64_t bytes) {
    for (const auto& key : deletes) bytes += record_bytes(key, {});
    rocksdb::WriteBatch batch(batch_header_bytes + bytes);
    for (const auto& key : deletes) batch.Delete(key);
    while (!puts.empty()) {
      const auto node = puts.extract(puts.begin());  // freed as soon as it is in the batch
      const ValueHeader header = value_header(node.key(), node.mapped());
      const rocksdb::Slice name(node.key());
      const rocksdb::Slice parts[2] = {{header.data(), header.size()}, {node.mapped()}};
      batch.Put(rocksdb::SliceParts(&name, 1), rocksdb::SliceParts(parts, 2));
    }
    rocksdb::FlushOptions flushing;
    rocksdb::WriteOptions writing;
    writing.sync = true;
    rocksdb::Status status;
    // What the last commit left goes to disk before the next is held in memory, too.
    if (property(rocksdb::DB::Properties::kNumImmutableMemTable) > 0) status = database_->Flush(flushing);
    if (status.ok()) status = database_->Write(writing, &batch);
    flushing.wait = false;
    if (status.ok() && property(rocksdb::DB::Properties::kCurSizeActiveMemTable) >= write_buffer_bytes)
      status = database_->Flush(flushing);
    if (status.ok()) return Done{};
    failure_ = status.ToString();
    return Error{Fault::io, "a commit to the store " + path_ + " failed: " + failure_};
  }

  /// Under another name first: a directory that bears the snapshot's name is whole.
  Status copy_to(const std::string& directory, const fs::path& parent) const {
    const std::string partial = directory + ".partial";
    std::error_code failure;
    fs::remove_all(partial, failure);
    rocksdb::Checkpoint* created = nullptr;
    rocksdb::Status status = rocksdb::Checkpoint::Create(database_.get(), &created);
    const std::unique_ptr<rocksdb::Checkpoint> checkpoint(created);
    if (status.ok()) status = checkpoint->CreateCheckpoint(partial);
    if (!status.ok())
      return Error{Fault::io, "cannot copy the store " + path_ + " to " + directory + ": " + status.ToString()};
    fs::rename(partial, directory, failure);
    if (failure) return Error{Fault::io, "cannot name the snapshot " + directory + ": " + failure.message()};
    return sync_directory(parent);
  }

  // constant
  const std::string path_;
  const RocksdbOptions options_;
  const bool writable_;
  // state
  std::unique_ptr<rocksdb::DB> database_;
  std::string failure_;  ///< of the first commit that failed; sticky
};

/// Room for what opening itself writes: the replayed log as a table, a new log and manifest.
Status make_room_to_open(const std::string& path, const RocksdbOptions& options) {
  const std::uint64_t needed = 2 * log_bytes(path) + options.reserve_bytes / 2;
  Status room = require_space(options.measure, path, needed);
  if (room || !fs::exists(ballast_file(path))) return room;
  std::error_code ignored;
  fs::remove(ballast_file(path), ignored);
  return require_space(options.measure, path, needed);
}

void restore_ballast(const std::string& path, const RocksdbOptions& options) {
  if (options.ballast_bytes == 0 || fs::exists(ballast_file(path))) return;
  if (require_space(options.measure, path, 2 * options.ballast_bytes + 2 * options.reserve_bytes))
    make_ballast(ballast_file(path), options.ballast_bytes);
}

}  // namespace

Result<std::unique_ptr<Store>> open_rocksdb(const std::string& path, const RocksdbOptions& options) {
  if (path.empty()) return Error{Fault::bad_config, "store.path is empty"};
  if (Status made = make_directory(path); !made) return made.error();
  const Result<bool> exists = holds_store(path);
  if (!exists) return exists.error();
  if (Status room = make_room_to_open(path, options); !room) return room.error();

  rocksdb::Options opening = database_options();
  opening.create_if_missing = !*exists;
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(opening, path, &opened);
  if (!status.ok()) return opening_error(status, path);
  restore_ballast(path, options);
  return std::unique_ptr<Store>(
      std::make_unique<RocksdbStore>(path, options, true, std::unique_ptr<rocksdb::DB>(opened)));
}

Result<std::unique_ptr<Store>> open_rocksdb_read_only(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return Error{Fault::missing, "there is no store " + path};
  const Result<bool> exists = holds_store(path);
  if (!exists) return exists.error();
  if (!*exists) return Error{Fault::missing, "there is no store in the directory " + path};

  // While the daemon writes, files may go between listing and reading them; a second look sees the new ones.
  constexpr int attempts_max = 8;
  rocksdb::Status status;
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    rocksdb::DB* opened = nullptr;
    status = rocksdb::DB::OpenForReadOnly(database_options(), path, &opened);
    if (status.ok())
      return std::unique_ptr<Store>(
          std::make_unique<RocksdbStore>(path, RocksdbOptions{}, false, std::unique_ptr<rocksdb::DB>(opened)));
  }
  return opening_error(status, path);
}

}  // namespace kpool
