// Runs the plugin once: run_plugin FRAMES INPUT ANSWERS TRANSPOSED MAX_BATCH CHANNEL...
// FRAMES: int32 jets, channels, first and second side; then float32 in that order.
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "JetViTProducer.cc"

int main(int count, char** arguments) try {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  std::ifstream in(words.at(0), std::ios::binary);
  std::int32_t size[4];
  in.read(reinterpret_cast<char*>(size), sizeof size);
  jetvit::Frame4D frames(size[0], jetvit::Frame3D(
      size[1], jetvit::Frame2D(size[2], std::vector<float>(size[3]))));
  for (auto& jet : frames)
    for (auto& channel : jet)
      for (auto& line : channel)
        in.read(reinterpret_cast<char*>(line.data()), line.size() * sizeof(float));

  edm::ConfigurationDescriptions descriptions;
  JetViTProducer::fillDescriptions(descriptions);
  auto config = descriptions.known.defaults;
  config.values["frameChannels"] = std::vector<std::string>(words.begin() + 5, words.end());
  config.values["transposed"] = words.at(3) == "1";
  config.values["maxBatch"] = static_cast<unsigned int>(std::stoul(words.at(4)));
  const auto session = JetViTProducer::initializeGlobalCache(config);
  JetViTProducer producer(config, session.get());
  producer.cache = session.get();
  edm::Event event;
  event.products["JetFrames"] = frames;
  producer.produce(event, {});

  const auto& seen = cms::Ort::ONNXRuntime::seen;
  std::ofstream(words.at(1), std::ios::binary)
      .write(reinterpret_cast<const char*>(seen.data()), seen.size() * sizeof(float));
  std::ofstream answers(words.at(2), std::ios::binary);
  for (const char* name : {"score", "mass"}) {
    const auto& found = std::any_cast<const std::vector<float>&>(event.products.at(name));
    answers.write(reinterpret_cast<const char*>(found.data()), found.size() * sizeof(float));
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
