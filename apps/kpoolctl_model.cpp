#include "apps/kpoolctl_model.hpp"

#include <map>

#include <nlohmann/json.hpp>

#include "apps/kpoolctl_encoder.hpp"
#include "apps/kpoolctl_records.hpp"
#include "apps/kpoolctl_table.hpp"
#include "core/encoder.hpp"
#include "core/tokenizer.hpp"

namespace kpool {
namespace {

// Embedded together, which is faster.
constexpr std::size_t portion_records = 64, portion_bytes = 1u << 18;

using nlohmann::ordered_json;

const char* type_name(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return "F32";
    case GgmlType::f16: return "F16";
    case GgmlType::bf16: return "BF16";
    case GgmlType::q4_0: return "Q4_0";
    case GgmlType::q4_1: return "Q4_1";
    case GgmlType::q8_0: return "Q8_0";
    case GgmlType::q4_k: return "Q4_K";
    case GgmlType::q6_k: return "Q6_K";
  }
  return "unknown";
}

struct TensorSum { std::int64_t tensors = 0, parameters = 0, bytes = 0; };

std::map<std::string, TensorSum> sums_by_type(const Gguf& file) {
  std::map<std::string, TensorSum> sums;
  for (const GgufTensor& tensor : file.tensors()) {
    TensorSum& sum = sums[type_name(tensor.type)];
    std::int64_t elements = 1;
    for (const std::int64_t size : tensor.shape) elements *= size;
    ++sum.tensors;
    sum.parameters += elements;
    sum.bytes += static_cast<std::int64_t>(tensor.data.size());
  }
  return sums;
}

ordered_json describe(const Gguf& file, const BaseShape& shape, std::int64_t layers) {
  ordered_json info{{"path", file.path()}, {"architecture", shape.architecture},
                    {"name", file.text("general.name").value_or("")}, {"fingerprint", file.fingerprint()},
                    {"layers", layers}, {"hidden", shape.hidden}, {"heads", shape.heads},
                    {"kv_heads", shape.kv_heads}, {"head_width", shape.head_width}, {"ffn", shape.ffn},
                    {"vocabulary", shape.vocabulary}, {"context", shape.context},
                    {"rope_theta", shape.rope_theta}, {"rms_epsilon", shape.rms_epsilon}};
  std::int64_t parameters = 0;
  ordered_json types = ordered_json::object();
  for (const auto& [type, sum] : sums_by_type(file)) {
    types[type] = {{"tensors", sum.tensors}, {"parameters", sum.parameters}, {"bytes", sum.bytes}};
    parameters += sum.parameters;
  }
  info["parameters"] = parameters;
  info["types"] = types;
  return info;
}

std::string plain(const ordered_json& info) {
  std::vector<std::vector<std::string>> rows, types{{"type", "tensors", "parameters", "bytes"}};
  for (const auto& [key, value] : info.items())
    if (key != "types") rows.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  for (const auto& [type, sum] : info["types"].items())
    types.push_back({type, sum["tensors"].dump(), sum["parameters"].dump(), sum["bytes"].dump()});
  return make_table(rows) + "\n" + make_table(types);
}

}  // namespace

Status model_info(const ModelOptions& options, bool json, const Console& console) {
  auto base = Base::load({options.model, "float32", 0, "quantised"});  // shapes are checked, nothing is expanded
  if (!base) return base.error();
  const Gguf& file = (*base)->file();
  const std::string architecture = (*base)->shape().architecture;
  const auto layers = file.integer(architecture + ".block_count").value_or(0);
  const ordered_json info = describe(file, (*base)->shape(), layers);
  console.out << (json ? info.dump(2) + "\n" : plain(info));
  return Done{};
}

Status model_tokenize(const ModelOptions& options, const Console& console) {
  auto file = Gguf::open(options.model);
  if (!file) return file.error();
  auto tokenizer = make_bpe(**file);
  if (!tokenizer) return tokenizer.error();
  auto output = Output::open(options.out, console.out);
  if (!output) return output.error();
  InputRecords records(options.in, console.in, console.complaints);
  std::uint64_t count = 0, tokens = 0;
  for (;;) {
    auto input = records.next();
    if (!input) return input.error();
    if (!*input) break;
    const auto sample = tokenize((*input)->record, **tokenizer);
    (*input)->fields["ids"] = sample.tokens;
    output->write((*input)->fields);
    ++count;
    tokens += sample.tokens.size();
  }
  if (auto written = output->finish(); !written) return written;
  if (!options.quiet) console.complaints << count << " records, " << tokens << " tokens\n";
  return records.finish();
}

Status model_embed(const ModelOptions& options, const Console& console) {
  auto encoder = load_encoder(options, nullptr);
  if (!encoder) return encoder.error();
  auto output = Output::open(options.out, console.out);
  if (!output) return output.error();
  InputRecords records(options.in, console.in, console.complaints);
  std::uint64_t count = 0;
  for (;;) {
    auto portion = records.next_some(portion_records, portion_bytes);
    if (!portion) return portion.error();
    if (portion->empty()) break;
    std::vector<Record> together;
    for (InputRecord& input : *portion) together.push_back(std::move(input.record));
    const auto encoded = (*encoder)->encode(std::move(together));
    for (std::size_t i = 0; i < encoded.size(); ++i) {
      InputRecord& record = (*portion)[i];
      if (const auto* refused = std::get_if<RefusedRecord>(&encoded[i])) {
        records.complain(record.where, std::string("not embedded: ") + kpool::describe(refused->reason));
        continue;
      }
      record.fields["embedding"] = std::get<EncodedRecord>(encoded[i]).embedding;
      output->write(record.fields);
      ++count;
    }
  }
  if (auto written = output->finish(); !written) return written;
  if (!options.quiet) console.complaints << count << " records, width " << (*encoder)->width() << "\n";
  return records.finish();
}

}  // namespace kpool
