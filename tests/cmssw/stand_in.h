// Small stand-ins of what the plugin uses of the framework: just enough to compile and run it.
#pragma once
#include <any>
#include <cstdint>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace cms {
  struct Exception : std::exception {
    explicit Exception(const std::string& category) : text(category + ": ") {}
    template <class T>
    Exception& operator<<(const T& value) {
      std::ostringstream stream;
      stream << value;
      text += stream.str();
      return *this;
    }
    const char* what() const noexcept override { return text.c_str(); }
    std::string text;
  };

  namespace Ort {
    using FloatArrays = std::vector<std::vector<float>>;
    // Answers with the first and the last pixel of an image, and keeps what it was given.
    struct ONNXRuntime {
      explicit ONNXRuntime(const std::string&) {}
      FloatArrays run(const std::vector<std::string>& names, FloatArrays& inputs,
                      const std::vector<std::vector<std::int64_t>>& shapes,
                      const std::vector<std::string>& outputs, std::int64_t batch) const {
        std::size_t size = 1;
        for (auto n : shapes.at(0)) size *= n;
        if (names.size() != 1 || outputs.size() != 2 || shapes[0][0] != batch ||
            size != inputs.at(0).size())
          throw Exception("ONNXRuntime") << "shapes, names and batch do not fit";
        seen.insert(seen.end(), inputs[0].begin(), inputs[0].end());
        FloatArrays found(2);
        for (std::int64_t jet = 0; jet < batch; ++jet) {
          const auto* image = inputs[0].data() + jet * (size / batch);
          found[0].insert(found[0].end(), {-1.f, image[0]});
          found[1].push_back(image[size / batch - 1]);
        }
        return found;
      }
      inline static std::vector<float> seen;
    };
  }  // namespace Ort
}  // namespace cms

namespace edm {
  struct InputTag {
    InputTag(const std::string& name = "") : label(name) {}
    std::string label;
  };
  struct FileInPath {
    FileInPath(const std::string& name = "") : name(name) {}
    std::string fullPath() const { return name; }
    std::string name;
  };
  struct ParameterSet {
    template <class T>
    T getParameter(const std::string& name) const {
      return std::any_cast<T>(values.at(name));
    }
    std::map<std::string, std::any> values;
  };
  struct Comment {
    void setComment(const std::string&) {}
  };
  struct ParameterSetDescription {
    template <class T>
    std::shared_ptr<Comment> add(const std::string& name, const T& value) {
      defaults.values[name] = value;
      return std::make_shared<Comment>();
    }
    template <class T>
    std::shared_ptr<Comment> add(const std::string& name, const char* value) {
      return add<T>(name, T(value));
    }
    template <class T>
    std::shared_ptr<Comment> add(const std::string& name, int value) {
      return add<T>(name, T(value));
    }
    ParameterSet defaults;
  };
  struct ConfigurationDescriptions {
    void add(const std::string&, const ParameterSetDescription& given) { known = given; }
    ParameterSetDescription known;
  };
  template <class T>
  struct EDGetTokenT {
    std::string name;
  };
  template <class T>
  struct EDPutTokenT {
    std::string name;
  };
  struct EventSetup {};
  struct Event {
    template <class T>
    const T& get(const EDGetTokenT<T>& token) const {
      return *std::any_cast<T>(&products.at(token.name));
    }
    template <class T>
    void emplace(const EDPutTokenT<T>& token, T&& value) {
      products[token.name] = std::move(value);
    }
    std::map<std::string, std::any> products;
  };
  template <class T>
  struct GlobalCache {
    using type = T;
  };
  namespace stream {
    template <class Cache>
    struct EDProducer {
      using Global = typename Cache::type;
      virtual ~EDProducer() = default;
      virtual void produce(Event&, const EventSetup&) = 0;
      template <class T>
      EDGetTokenT<T> consumes(const InputTag& tag) {
        return {tag.label};
      }
      template <class T>
      EDPutTokenT<T> produces(const std::string& name) {
        return {name};
      }
      const Global* globalCache() const { return cache; }
      const Global* cache = nullptr;
    };
  }  // namespace stream
}  // namespace edm

#define DEFINE_FWK_MODULE(type) static_assert(true, #type)
