// The bundled tiny model on two jets, against numbers that PyTorch gave. scram b runtests

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>  // version 3
#else
#define CATCH_CONFIG_MAIN
#include <catch.hpp>  // version 2, up to CMSSW 13
namespace Catch { using Detail::Approx; }
#endif
#include <cstdint>
#include <fstream>
#include <vector>

#include "FWCore/ParameterSet/interface/FileInPath.h"
#include "PhysicsTools/ONNXRuntime/interface/ONNXRuntime.h"

TEST_CASE("the bundled model gives the expected answers at every batch size") {
  const cms::Ort::ONNXRuntime model(edm::FileInPath("RecoJets/JetViT/data/tiny.onnx").fullPath());
  // of each jet: number of hits; channel, row, column, value of each; score and mass
  std::ifstream file(edm::FileInPath("RecoJets/JetViT/data/tiny.txt").fullPath());
  constexpr std::int64_t channels = 8, side = 125, pixels = channels * side * side;
  std::vector<float> both, wanted;
  std::size_t hits = 0;
  while (file >> hits) {
    std::vector<float> image(pixels, 0.f);
    for (std::size_t hit = 0; hit < hits; ++hit) {
      std::size_t channel, row, column;
      float value;
      file >> channel >> row >> column >> value;
      image[(channel * side + row) * side + column] = value;
    }
    float score, mass;
    file >> score >> mass;
    wanted.insert(wanted.end(), {score, mass});
    both.insert(both.end(), image.begin(), image.end());
    cms::Ort::FloatArrays one{image};
    const auto found = model.run({"frame"}, one, {{1, channels, side, side}}, {"score", "mass"}, 1);
    CHECK(found[0][1] == Catch::Approx(score).margin(1e-4));
    CHECK(found[1][0] == Catch::Approx(mass).epsilon(1e-4));
  }
  REQUIRE(wanted.size() == 4);
  cms::Ort::FloatArrays two{both};
  const auto found = model.run({"frame"}, two, {{2, channels, side, side}}, {"score", "mass"}, 2);
  CHECK(found[0][3] == Catch::Approx(wanted[2]).margin(1e-4));
  CHECK(found[1][1] == Catch::Approx(wanted[3]).epsilon(1e-4));
}
