// What a matrix element D_ij is, as a function of the distance r.
//
//   INVERSE    D = 1/r, or s(r)/r under a cutoff           (1/A)
//   DISTANCE   D = r                                       (A)
//   SCREENED   D = r, and a bump measures the difference to it by
//              (r - r^a)^2 / (sigma^2 (1 + r^2)), r in A: only in a bias
#pragma once

#include <stdexcept>
#include <string>

namespace metamd {

enum class MetricKind { Inverse, Distance, Screened };

inline const char* metric_name(MetricKind kind) {
  switch (kind) {
  case MetricKind::Inverse:
    return "INVERSE";
  case MetricKind::Distance:
    return "DISTANCE";
  default:
    return "SCREENED";
  }
}

inline MetricKind metric_from_name(const std::string& text) {
  for (const MetricKind kind : {MetricKind::Inverse, MetricKind::Distance, MetricKind::Screened}) {
    if (text == metric_name(kind)) {
      return kind;
    }
  }
  throw std::invalid_argument("METRIC=" + text + " is none of INVERSE, DISTANCE, SCREENED");
}

struct Metric {
  MetricKind kind = MetricKind::Inverse;
  double cutoff_ang = 0.0; ///< D is zero beyond; 0: no cutoff
  double r_on_ang = 0.0;   ///< where the switch begins

  bool has_cutoff() const { return cutoff_ang > 0.0; }
  bool weighted() const { return kind == MetricKind::Screened; }

  /// D and dD/dr at distance r.
  void evaluate(double r, double& d, double& slope) const {
    if (kind != MetricKind::Inverse) {
      d = r;
      slope = 1.0;
      return;
    }
    const double u = 1.0 / r;
    if (!has_cutoff() || r <= r_on_ang) {
      d = u;
      slope = -u * u;
      return;
    }
    if (r >= cutoff_ang) {
      d = slope = 0.0;
      return;
    }
    // Quintic switch: value, slope and curvature are continuous at both ends.
    const double span = 1.0 / (cutoff_ang - r_on_ang);
    const double x = (r - r_on_ang) * span;
    const double s = 1.0 + x * x * x * (-10.0 + x * (15.0 - 6.0 * x));
    const double ds = -30.0 * x * x * (1.0 - x) * (1.0 - x) * span;
    d = s * u;
    slope = (ds - d) * u;
  }
};

} // namespace metamd
