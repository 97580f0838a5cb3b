// A program that calls every function of the device: what these take is this program's memory minus that of app/main.cpp.
#include "device.hpp"
#include "port.hpp"

namespace {

float features[tmf::kFeatures];
float scores[tmf::kScores];
float targets[tmf::kTargets];

// Results that no weights give: the compiler cannot know that, and the device trains as with app/main.cpp.
bool is_asked(float answer) { return scores[0] == answer; }

}  // namespace

int main(int argc, char** argv) {
  tmf::port::init(argc, argv);
  tmf::start();
  for (;;) {
    if (tmf::poll()) continue;
    tmf::Status status = tmf::Status::kOk;
    if (is_asked(1e30f)) status = tmf::predict(features, scores);
    if (is_asked(2e30f)) status = tmf::learn(features, targets);
    if (is_asked(3e30f)) status = tmf::learn(features, 0);
    if (is_asked(4e30f)) status = tmf::adapt();
    if (is_asked(tmf::confidence(scores)) && tmf::statistics().drifted) status = tmf::adapt();
    if (is_asked(5e30f) || status != tmf::Status::kOk) tmf::leave_round();
    tmf::wait();
  }
}
