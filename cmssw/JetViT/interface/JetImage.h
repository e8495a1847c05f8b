#ifndef RecoJets_JetViT_interface_JetImage_h
#define RecoJets_JetViT_interface_JetImage_h

// From the frames of an end-to-end producer to the input of the model: no framework in here, so
// that it can be compiled and tried anywhere.

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace jetvit {

  // [jet][channel][row][column], as e2e::Frame4D of RecoE2E
  using Frame2D = std::vector<std::vector<float>>;
  using Frame3D = std::vector<Frame2D>;
  using Frame4D = std::vector<Frame3D>;

  // For each channel of the model its place in the frames. Channels are matched by name, because
  // producers order them differently and a wrong order gives an answer, only a wrong one.
  inline std::vector<std::size_t> channelOrder(const std::vector<std::string>& frameChannels,
                                               const std::vector<std::string>& modelChannels) {
    std::vector<std::size_t> order;
    for (const auto& name : modelChannels) {
      if (std::count(frameChannels.begin(), frameChannels.end(), name) != 1)
        throw std::invalid_argument("channel '" + name + "' is not exactly once in the frames");
      order.push_back(std::find(frameChannels.begin(), frameChannels.end(), name) -
                      frameChannels.begin());
    }
    return order;
  }

  // Appends one jet as (channel, row, column), rows in eta and columns in phi.
  // transposed: the frame has phi first.
  inline void fillImage(const Frame3D& frame, const std::vector<std::size_t>& order,
                        std::size_t rows, std::size_t columns, bool transposed,
                        std::vector<float>& image) {
    for (const auto channel : order) {
      if (channel >= frame.size())
        throw std::invalid_argument("a frame has fewer channels than its names");
      const auto& plane = frame[channel];
      const std::size_t first = transposed ? columns : rows, second = transposed ? rows : columns;
      if (plane.size() != first ||
          std::any_of(plane.begin(), plane.end(),
                      [second](const auto& line) { return line.size() != second; }))
        throw std::invalid_argument("a frame is not of the size that the model takes");
      for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t column = 0; column < columns; ++column)
          image.push_back(transposed ? plane[column][row] : plane[row][column]);
    }
  }
}  // namespace jetvit

#endif
