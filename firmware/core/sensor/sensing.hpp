// What the device senses by itself: reads its sensor, makes samples of the rows, predicts each, and learns those with a label. The
// generated sensing.hpp includes this file after sensor_facts.hpp, which has the facts of the sensor and its messages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "board.hpp"
#include "bytes.hpp"
#include "device.hpp"
#include "frame.hpp"
#include "math.hpp"
#include "port.hpp"
#include "protocol.hpp"
#include "sensor/kept_rows.hpp"
#include "sensor/sensor.hpp"
#include "sensor/watch.hpp"

namespace tmf {

// The pipeline from rows to predictions; answers what the host asks about it.
class Sensing {
 public:
  static constexpr bool kSenses = true;
  static_assert(protocol::Rows::kFixedSize + sensor::KeptRows::kRowBytes <= payload_capacity(board::kReceiveWindow) &&
                    protocol::Columns::kFixedSize + sizeof sensor::kColumns - 1 <= payload_capacity(board::kReceiveWindow),
                "an answer has room for a row, and for the names of its columns");

  // Called once, after a start.
  void begin() { start_sensor(); }

  // Reads at most one row. `is_free`: the device has weights, and no round of the host is in progress. A recording waits for
  // that, or for the host to fetch its rows; a sensor's rows come when they come. Returns whether to read again soon.
  bool work(bool is_free) {
    if (!started_) return !sensor::kReplayed && start_later();
    if (watch_.state() == protocol::SensorState::kEnded) return false;
    if (sensor::kReplayed && !(recording_ != 0 ? rows_.has_room() : is_free)) return false;
    float row[sensor::kChannels];
    int label = sensor::kNoLabel;
    const sensor::Reading reading = sensor::read(row, label);
    bool after_gap = reading == sensor::Reading::kRowAfterGap;
    switch (reading) {
      case sensor::Reading::kNothingNew:
        watch_.wait(port::ticks());
        return true;
      case sensor::Reading::kFault:
        watch_.miss();
        lost_ = true;
        return true;
      case sensor::Reading::kEnd:
        watch_.end();
        if (front_end_.end()) take_sample(front_end_.label());
        return false;
      case sensor::Reading::kRow:
      case sensor::Reading::kRowAfterGap:
        break;
    }
    if (!watch_.see(row, port::ticks())) {  // not finite: left out
      lost_ = true;
      return true;
    }
    if (label != sensor::kNoLabel && (label < 0 || label >= kClasses)) {
      watch_.refuse_label();
      label = sensor::kNoLabel;
    }
    after_gap = after_gap || lost_;
    lost_ = false;
    if (recording_ != 0) rows_.add(row, label, after_gap);
    if (after_gap && front_end_.end()) take_sample(front_end_.label());
    if (front_end_.add(row, label)) take_sample(front_end_.label());
    return true;
  }

  // Answers the messages of firmware with a sensor. `detail`: as for ErrorAnswer.
  Status answer(uint8_t type, const uint8_t* payload, size_t size, Writer& out, uint32_t& detail) {
    using namespace protocol;  // NOLINT: nearly every name in this function is one of the wire table
    switch (type) {
      case AskSensor::kType: {
        AskSensor request;
        if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
        report().write(out);
        return Status::kOk;
      }
      case AskColumns::kType: {
        AskColumns request;
        if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
        Columns columns;
        columns.channels = sensor::kChannels;
        columns.format = sizeof(sensor::RowNumber) == 2 ? RowFormat::kI16 : RowFormat::kF32;
        columns.rate = sensor::kRate;
        columns.per_second = sensor::kPerSecond;
        columns.names = reinterpret_cast<const uint8_t*>(sensor::kColumns);
        columns.names_size = sizeof sensor::kColumns - 1;
        columns.write(out);
        return Status::kOk;
      }
      case PullRows::kType: {
        PullRows request;
        if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
        return pull(request, out, detail);
      }
      case LabelSample::kType: {
        LabelSample request;
        if (const Status status = parse(payload, size, request); status != Status::kOk) return status;
        if (!has_request_ || request.request != request_) {
          if (request.label >= static_cast<uint32_t>(kClasses)) return Status::kBadValue;
          if (samples_ == 0) return Status::kBadState;
          if (const Status status = learn(sample_, request.label); status != Status::kOk) return status;
          has_request_ = true;
          request_ = request.request;
        }
        report().write(out);
        return Status::kOk;
      }
      default:
        return Status::kUnknownType;
    }
  }

 private:
  void start_sensor() {
    started_ = sensor::begin();
    watch_ = sensor::Watch();
    if (!started_) watch_.miss();
    static_cast<void>(front_end_.end());  // what an earlier recording has begun is no sample
    lost_ = false;
  }

  // Starts a sensor that was missing, once a second. Returns true: it is asked again soon.
  bool start_later() {
    if (watch_.is_second_over(port::ticks())) start_sensor();
    return true;
  }

  // Predicts the sample that is complete, and learns it if it has a label; not while the sensor is stuck.
  void take_sample(int label) {
    front_end_.write(sample_);
    ++samples_;
    float scores[kScores];
    predicted_ = sensor::kNoLabel;
    confidence_ = 0.0f;
    if (predict(sample_, scores) != Status::kOk) return;
    predicted_ = best(scores);
    confidence_ = confidence(scores);
    if (label == sensor::kNoLabel || watch_.state() == protocol::SensorState::kStuck) return;
    // A round of the host may be in progress; then this sample is not learned.
    if (learn(sample_, label) == Status::kOk) ++learned_;
  }

  // Writes the rows from number `request.row` on, as many as fit. A new number of a recording begins it anew, 0 ends it.
  Status pull(const protocol::PullRows& request, Writer& out, uint32_t& detail) {
    if (request.recording != recording_) {
      if (request.row != 0) return Status::kBadState;  // begun before a reset, or by another host
      rows_.clear();
      recording_ = request.recording;
      if (recording_ != 0) start_sensor();
    }
    if (request.row > rows_.end()) {
      detail = rows_.end();
      return Status::kBadOffset;
    }
    rows_.release(request.row);
    protocol::Rows answer;
    uint8_t* const start = out.reserve(protocol::Rows::kFixedSize);
    answer.first = rows_.first();
    answer.dropped = rows_.dropped();
    answer.state = watch_.state();
    answer.rate = watch_.rate();
    rows_.write(out);
    Writer head(start, protocol::Rows::kFixedSize);
    answer.write_head(head);
    return Status::kOk;
  }

  protocol::SensorReport report() const {
    protocol::SensorReport report;
    report.state = watch_.state();
    report.rows = watch_.rows();
    report.rate = watch_.rate();
    report.samples = samples_;
    report.learned = learned_;
    report.refused = watch_.refused_labels();
    report.label = samples_ == 0 || predicted_ == sensor::kNoLabel ? UINT16_MAX : static_cast<uint16_t>(predicted_);
    report.confidence = confidence_;
    report.classes = static_cast<uint16_t>(kClasses);
    return report;
  }

  // All zero at first, so that a static object needs no constructor.
  sensor::FrontEnd front_end_;
  sensor::Watch watch_;
  sensor::KeptRows rows_;
  float sample_[kFeatures] = {};  // the newest
  float confidence_ = 0.0f;
  int predicted_ = 0;
  uint32_t samples_ = 0;
  uint32_t learned_ = 0;    // of them, with a label of their rows
  uint32_t recording_ = 0;  // number of the recording, 0 for none
  uint32_t request_ = 0;    // of the last label that was learned
  bool has_request_ = false;
  bool started_ = false;  // the sensor was there
  bool lost_ = false;     // rows before the next one are missing
};

}  // namespace tmf
