#include "MetadInput.h"

namespace metamd::plumed {

void register_metad_keywords(PLMD::Keywords& keys) {
  keys.add("compulsory", "SIGMA",
           "the width of a bump, in units of D (1/length for INVERSE, length for DISTANCE, a "
           "plain number for SCREENED); per pair of elements as in 0.2,C-H:0.1, where 0.2 is for "
           "all others");
  keys.add("compulsory", "PACE",
           "steps between two hills. 0 adds none and only uses those in FILE, as they are");
  keys.add("optional", "HEIGHT", "the height of a hill, in energy units; needed unless PACE=0");
  keys.add("optional", "BIASFACTOR",
           "well-tempered: heights are HEIGHT*exp(-V/(kB TEMP (BIASFACTOR-1))). Heights in the "
           "file are the ones added, without METAD's factor BIASFACTOR/(BIASFACTOR-1)");
  keys.add("optional", "TEMP", "the temperature of BIASFACTOR, where the MD code does not give it");
  keys.add("compulsory", "FILE", "HILLS.xyz",
           "the hills, an extended-XYZ trajectory with one frame a hill: Angstrom, eV and ps "
           "whatever UNITS says");
  keys.add("optional", "RAMP",
           "steps over which a hill, new or read at a restart, grows to its height. The sudden "
           "return of many hills can blow a run up");
  keys.addFlag("RANDOM_HEIGHT", false, "heights uniform between 0 and HEIGHT; needs SEED");
  keys.add("optional", "SEED",
           "of RANDOM_HEIGHT: the same seed gives the same heights, over restarts too");
  keys.add(
      "optional", "MERGE",
      "hills closer than this to an older one, in units of SIGMA, are merged into it, and all are "
      "kept in few dimensions and in single precision: much less work for a small error of the "
      "bias (0.5: below 1 percent of the force). Off by default; the file keeps every hill");
  keys.add("optional", "LIST_SKIN",
           "hills far away in matrix space are looked at again when the matrix has moved by this "
           "much, in units of SIGMA (default 1); 0 looks at every hill at every step");
  keys.add("optional", "LIST_EXPONENT",
           "a hill is far away when it is below its height times exp(-LIST_EXPONENT) (default "
           "40, which loses nothing in double precision)");
  keys.add("optional", "WALKERS_N", "number of walkers that share their hills through files");
  keys.add("optional", "WALKERS_ID", "number of this walker, from 0; its file is FILE.id");
  keys.add("optional", "WALKERS_DIR", "the folder of the walkers' files (default: here)");
  keys.add("optional", "WALKERS_RSTRIDE", "steps between two looks into the others' files");
}

namespace {

void parse_heights(PLMD::Colvar& action, const HostUnits& units, MetadInput& in) {
  double height = -1.0, biasfactor = -1.0;
  action.parse("HEIGHT", height);
  action.parse("BIASFACTOR", biasfactor);
  const double kbt = parse_kbt(action);
  action.parseFlag("RANDOM_HEIGHT", in.random);
  in.seed = -1;
  action.parse("SEED", in.seed);
  if (in.pace == 0 && (height != -1.0 || biasfactor != -1.0 || in.random)) {
    action.error(
        "PACE=0 adds no hills: HEIGHT, BIASFACTOR and RANDOM_HEIGHT have no meaning with it");
  }
  if (in.pace > 0 && height == -1.0) {
    action.error("HEIGHT is missing: with PACE above 0 hills need a height");
  }
  if (in.pace > 0 && !(height > 0.0)) {
    action.error("HEIGHT must be positive; to use a file of hills without adding any give PACE=0");
  }
  if (in.random != (in.seed != -1) || (in.random && in.seed < 0)) {
    action.error("RANDOM_HEIGHT and SEED belong together; SEED is a number from 0 on");
  }
  in.height_ev = height * units.electronvolt();
  if (biasfactor == -1.0) {
    return;
  }
  if (!(biasfactor > 1.0)) {
    action.error("BIASFACTOR must be larger than 1; leave it out for constant heights");
  }
  if (!(kbt > 0.0)) {
    action.error("TEMP must be given and positive: BIASFACTOR needs a temperature, and the MD code "
                 "passes none");
  }
  in.biasfactor = biasfactor;
  in.kbt_ev = kbt * units.electronvolt();
}

void parse_walkers(PLMD::Colvar& action, MetadInput& in) {
  int n = -1, id = -1, rstride = -1;
  action.parse("WALKERS_N", n);
  action.parse("WALKERS_ID", id);
  action.parse("WALKERS_DIR", in.walkers_dir);
  action.parse("WALKERS_RSTRIDE", rstride);
  if (n == -1) {
    if (id != -1 || rstride != -1 || !in.walkers_dir.empty()) {
      action.error("WALKERS_N is missing: WALKERS_ID, WALKERS_DIR and WALKERS_RSTRIDE need it");
    }
    return;
  }
  if (n < 1 || id < 0 || id >= n) {
    action.error("WALKERS_N must be positive and WALKERS_ID one of 0 ... WALKERS_N-1");
  }
  if (rstride < 1) {
    action.error("WALKERS_RSTRIDE must be given and positive");
  }
  if (in.pace == 0) {
    action.error("PACE=0 adds no hills: walkers have nothing to share");
  }
  in.walkers = n;
  in.walker = id;
  in.walkers_rstride = rstride;
}

BiasOptions parse_bias(PLMD::Colvar& action, const Metric& metric, const HostUnits& units) {
  BiasOptions out;
  out.matrix.metric = metric;
  std::string sigma;
  action.parse("SIGMA", sigma);
  const double length = units.angstrom();
  const double factor = metric.kind == MetricKind::Inverse    ? 1.0 / length
                        : metric.kind == MetricKind::Distance ? length
                                                              : 1.0;
  guarded(action, [&] { out.sigma = Sigma::parse(sigma).scaled(factor); });
  double merge = -1.0;
  action.parse("MERGE", merge);
  if (merge != -1.0 && !(merge > 0.0)) {
    action.error("MERGE must be positive; leave it out to merge nothing");
  }
  out.merge = merge == -1.0 ? 0.0 : merge;
  long long ramp = -1;
  action.parse("RAMP", ramp);
  if (ramp != -1 && ramp < 1) {
    action.error("RAMP must be a positive number of steps");
  }
  out.ramp_steps = ramp == -1 ? 0 : ramp;
  action.parse("LIST_SKIN", out.list.skin);
  action.parse("LIST_EXPONENT", out.list.cutoff_exponent);
  if (!(out.list.skin >= 0.0)) {
    action.error("LIST_SKIN must be positive, or 0 for no list");
  }
  if (!(out.list.cutoff_exponent > 0.0)) {
    action.error("LIST_EXPONENT must be positive");
  }
  return out;
}

} // namespace

MetadInput parse_metad(PLMD::Colvar& action, int stride, const Metric& metric,
                       const HostUnits& units) {
  MetadInput in;
  action.parse("PACE", in.pace);
  if (in.pace < 0) {
    action.error("PACE must be positive, or 0 to add no hills");
  }
  if (in.pace % stride != 0) {
    action.error("PACE must be a multiple of STRIDE");
  }
  parse_heights(action, units, in);
  action.parse("FILE", in.file);
  parse_walkers(action, in);
  in.bias = parse_bias(action, metric, units);
  return in;
}

void HillKind::check(const HillFrame& hill, const std::string& path) const {
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error("hills file " + path + " does not belong to this bias: " + why);
  };
  if (hill.ids != matrix.ids) {
    refuse("it is of " + std::to_string(hill.ids.size()) + " atoms, and GROUP has " +
           std::to_string(matrix.ids.size()) + " or other ones");
  }
  if (hill.species != matrix.selection.species()) {
    refuse("its elements are not those of SPECIES");
  }
  if (hill.metric != metric_name(matrix.metric.kind)) {
    refuse("it has metric " + hill.metric + ", and METRIC is " + metric_name(matrix.metric.kind));
  }
  const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-9 * std::abs(b); };
  if (!close(hill.cutoff_ang, matrix.metric.cutoff_ang) ||
      !close(hill.r_on_ang, matrix.metric.r_on_ang)) {
    refuse("it has a cutoff of " + format_double(hill.cutoff_ang) + " A and an r_on of " +
           format_double(hill.r_on_ang) + " A, other than CUTOFF and R_ON");
  }
  if (!Sigma::parse(hill.sigma).matches(sigma)) {
    refuse("it has sigma " + hill.sigma + ", and SIGMA is " + sigma.text() + " in Angstrom");
  }
  if (hill.pairs != pairs) {
    refuse("it is of " + std::to_string(hill.pairs) + " pairs, and the matrix has " +
           std::to_string(pairs) + ": other groups or exclusions");
  }
  if (hill.periodic && !matrix.periodic) {
    refuse("it has a periodic cell, and NOPBC is given");
  }
}

HillFrame HillKind::blank() const {
  HillFrame out;
  out.sigma = sigma.text();
  out.biasfactor = biasfactor;
  out.metric = metric_name(matrix.metric.kind);
  out.cutoff_ang = matrix.metric.cutoff_ang;
  out.r_on_ang = matrix.metric.r_on_ang;
  out.pairs = pairs;
  out.species = matrix.selection.species();
  out.ids = matrix.ids;
  return out;
}

} // namespace metamd::plumed
