// Runs an exported model (python -m lib export RUN model.onnx) on the frames of jets.
//
// In:  jetvit::Frame4D, [jet][channel][row][column] in physical units
// Out: std::vector<float> "score", the probability of a top quark, and "mass" in GeV, a jet each

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "FWCore/Framework/interface/Event.h"
#include "FWCore/Framework/interface/MakerMacros.h"
#include "FWCore/Framework/interface/stream/EDProducer.h"
#include "FWCore/ParameterSet/interface/ConfigurationDescriptions.h"
#include "FWCore/ParameterSet/interface/FileInPath.h"
#include "FWCore/ParameterSet/interface/ParameterSet.h"
#include "FWCore/ParameterSet/interface/ParameterSetDescription.h"
#include "FWCore/Utilities/interface/Exception.h"
#include "PhysicsTools/ONNXRuntime/interface/ONNXRuntime.h"
#include "RecoJets/JetViT/interface/JetImage.h"

// One session for all streams: its memory is shared, and run() is const and may be called by
// several threads at once.
class JetViTProducer : public edm::stream::EDProducer<edm::GlobalCache<cms::Ort::ONNXRuntime>> {
public:
  JetViTProducer(const edm::ParameterSet& config, const cms::Ort::ONNXRuntime*)
      : frames_(consumes<jetvit::Frame4D>(config.getParameter<edm::InputTag>("frames"))),
        order_(jetvit::channelOrder(
            config.getParameter<std::vector<std::string>>("frameChannels"),
            config.getParameter<std::vector<std::string>>("modelChannels"))),
        rows_(config.getParameter<unsigned int>("rows")),
        columns_(config.getParameter<unsigned int>("columns")),
        maxBatch_(std::max(1u, config.getParameter<unsigned int>("maxBatch"))),
        transposed_(config.getParameter<bool>("transposed")),
        input_(config.getParameter<std::string>("input")),
        scoreToken_(produces<std::vector<float>>("score")),
        massToken_(produces<std::vector<float>>("mass")) {}

  static std::unique_ptr<cms::Ort::ONNXRuntime> initializeGlobalCache(
      const edm::ParameterSet& config) {
    // The default options of the wrapper: one thread, on the CPU.
    return std::make_unique<cms::Ort::ONNXRuntime>(
        config.getParameter<edm::FileInPath>("model").fullPath());
  }

  static void globalEndJob(const cms::Ort::ONNXRuntime*) {}

  static void fillDescriptions(edm::ConfigurationDescriptions& descriptions) {
    const std::vector<std::string> model{"track pT", "track d0", "track dz", "ECAL",
                                         "HCAL",     "BPIX 1",   "BPIX 2",   "BPIX 3"};
    edm::ParameterSetDescription description;
    description.add<edm::InputTag>("frames", edm::InputTag("JetFrames"));
    description.add<std::vector<std::string>>("frameChannels", model)
        ->setComment("names of the channels of the frames, in their order");
    description.add<std::vector<std::string>>("modelChannels", model)
        ->setComment("names of the channels of the model, as in the metadata of its file");
    description.add<edm::FileInPath>("model", edm::FileInPath("RecoJets/JetViT/data/model.onnx"));
    description.add<std::string>("input", "frame")
        ->setComment("name of the input: frame (physical units) or image (as trained on)");
    description.add<unsigned int>("rows", 125)->setComment("pixels in eta");
    description.add<unsigned int>("columns", 125)->setComment("pixels in phi");
    description.add<bool>("transposed", false)->setComment("frames have phi first");
    description.add<unsigned int>("maxBatch", 8)->setComment("jets at once; bounds the memory");
    descriptions.add("jetViTProducer", description);
  }

  void produce(edm::Event& event, const edm::EventSetup&) override {
    const auto& frames = event.get(frames_);
    std::vector<float> scores, masses;
    for (std::size_t first = 0; first < frames.size(); first += maxBatch_) {
      const std::size_t jets = std::min<std::size_t>(maxBatch_, frames.size() - first);
      cms::Ort::FloatArrays inputs(1);
      inputs[0].reserve(jets * order_.size() * rows_ * columns_);
      for (std::size_t jet = first; jet < first + jets; ++jet)
        jetvit::fillImage(frames[jet], order_, rows_, columns_, transposed_, inputs[0]);
      const auto count = static_cast<std::int64_t>(jets);
      const auto found = globalCache()->run(
          {input_}, inputs,
          {{count, static_cast<std::int64_t>(order_.size()), static_cast<std::int64_t>(rows_),
            static_cast<std::int64_t>(columns_)}},
          {"score", "mass"}, count);
      for (std::size_t jet = 0; jet < jets; ++jet) {
        scores.push_back(found.at(0).at(2 * jet + 1));  // (jets, 2): QCD, top
        masses.push_back(found.at(1).at(jet));          // (jets, 1)
        if (!std::isfinite(scores.back()) || !std::isfinite(masses.back()))
          throw cms::Exception("JetViT") << "the answer for jet " << first + jet << " is not finite";
      }
    }
    event.emplace(scoreToken_, std::move(scores));
    event.emplace(massToken_, std::move(masses));
  }

private:
  const edm::EDGetTokenT<jetvit::Frame4D> frames_;
  const std::vector<std::size_t> order_;
  const unsigned int rows_, columns_, maxBatch_;
  const bool transposed_;
  const std::string input_;
  const edm::EDPutTokenT<std::vector<float>> scoreToken_, massToken_;
};

DEFINE_FWK_MODULE(JetViTProducer);
