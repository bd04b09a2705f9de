#include "HillsFile.h"
#include "MatrixInput.h"

#include "bias.h"
#include "random.h"

#include "tools/Communicator.h"
#include "tools/OFile.h"

#include <limits>
#include <memory>

namespace metamd::plumed {

//+PLUMEDOC METAMD_BIAS MATRIX_METAD
/*
Metadynamics on the whole matrix of pair distances.

Every PACE steps a bump is put on the present matrix D:

V = sum_a h_a exp( -1/2 sum_{i<j} (D_ij-D^a_ij)^2 / SIGMA^2 )

\plumedfile
LOAD FILE=libmetamd_plumed.so
UNITS LENGTH=A ENERGY=eV
MATRIX_METAD GROUP=1-9 SPECIES=C,C,O,H*6 SIGMA=0.2 HEIGHT=0.03 PACE=20 LABEL=b
PRINT ARG=b.* FILE=COLVAR STRIDE=10
\endplumedfile
*/
//+ENDPLUMEDOC

class MatrixMetad : public PLMD::Colvar, public PLMD::ActionPilot {
public:
  static void registerKeywords(PLMD::Keywords& keys);
  explicit MatrixMetad(const PLMD::ActionOptions& options);
  void calculate() override;
  void apply() override;
  void update() override;

private:
  struct Walkers {
    int n = 1, id = 0, rstride = 0;
    std::string dir;
  };

  void parse_heights();
  void parse_walkers();
  BiasOptions parse_bias();
  void open_files();
  /// All new hills of another walker into the bias.
  void read_hills(HillsReader& reader);
  void check_belongs(const HillFrame& hill, const std::string& path) const;
  void deposit();
  void read_walkers();
  std::string walker_path(int id) const;
  HillFrame frame(double height_ev) const;
  void set_outputs();
  template <class Job> void guarded(Job&& job) const;

  HostUnits units_;
  MatrixInput input_;
  Sigma sigma_;
  std::unique_ptr<MatrixBias> bias_;
  double height_ev_ = 0.0, biasfactor_ = 0.0, kbt_ev_ = 0.0, last_height_ev_ = 0.0;
  int pace_ = 0;
  long long last_step_ = std::numeric_limits<long long>::min();
  bool random_ = false, check_newer_ = false;
  long long seed_ = 0;
  std::uint64_t own_hills_ = 0;
  std::string file_;
  Walkers walkers_;
  std::vector<HillsReader> readers_;
  HillsWriter writer_;
  std::vector<Vec3> x_;
  Cell cell_;
  long long ramp_ = 0;
};

PLUMED_REGISTER_ACTION(MatrixMetad, "MATRIX_METAD")

void MatrixMetad::registerKeywords(PLMD::Keywords& keys) {
  PLMD::Colvar::registerKeywords(keys);
  PLMD::ActionPilot::registerKeywords(keys);
  keys.use("RESTART");
  keys.use("UPDATE_FROM");
  keys.use("UPDATE_UNTIL");
  keys.add("hidden", "STRIDE", "the frequency with which the forces of the bias are applied");
  register_matrix_keywords(keys);
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
      "hills closer than this to an older one, in units of SIGMA, are merged into it: less "
      "work for a small error of the bias (0.7: below 1 percent of the force). Off by default; the "
      "file keeps every hill");
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
  components_always(keys);
  add_output(keys, "bias", "default", "the bias potential");
  add_output(keys, "nhills", "default", "the number of hills, those of other walkers included");
  add_output(keys, "active", "default", "the number of hills looked at in this step");
  add_output(keys, "height", "default", "the height of the last hill added here");
  add_output(keys, "work", "default", "the work done so far by changes of the hills");
}

/// What went wrong below PLUMED becomes an error of this action.
template <class Job> void MatrixMetad::guarded(Job&& job) const {
  std::string message;
  try {
    job();
    return;
  } catch (const PLMD::Exception&) {
    throw;
  } catch (const std::exception& wrong) {
    message = wrong.what();
  }
  error(message);
}

MatrixMetad::MatrixMetad(const PLMD::ActionOptions& options)
    : Action(options), Colvar(options), ActionPilot(options), units_(METAMD_UNITS_OF_THIS) {
  input_ = parse_matrix(*this, units_.angstrom());
  parse("PACE", pace_);
  if (pace_ < 0) {
    error("PACE must be positive, or 0 to add no hills");
  }
  if (pace_ % getStride() != 0) {
    error("PACE must be a multiple of STRIDE");
  }
  parse_heights();
  parse("FILE", file_);
  parse_walkers();
  const BiasOptions bias = parse_bias();
  checkRead();
  // From 2.10 on PLUMED returns forces to the host only for actions that say they have
  // derivatives, wherever the host does not pass all atoms in order.
  turnOnDerivatives();
  guarded([&] { bias_ = std::make_unique<MatrixBias>(input_.selection, bias); });
  for (const char* name : {"bias", "nhills", "active", "height", "work"}) {
    if (std::string(name) == "bias") {
      addComponentWithDerivatives(name);
    } else {
      addComponent(name);
    }
    componentIsNotPeriodic(name);
  }
  log.printf("  matrix of %lld pairs of %zu atoms, METRIC=%s, SIGMA=%s in Angstrom\n",
             static_cast<long long>(bias_->matrix().count()), input_.atoms.size(),
             metric_name(input_.metric.kind), sigma_.text().c_str());
  guarded([this] { open_files(); });
  requestAtoms(input_.atoms);
}

void MatrixMetad::parse_heights() {
  double height = -1.0, biasfactor = -1.0;
  parse("HEIGHT", height);
  parse("BIASFACTOR", biasfactor);
  const double kbt = parse_kbt(*this);
  parseFlag("RANDOM_HEIGHT", random_);
  seed_ = -1;
  parse("SEED", seed_);
  if (pace_ == 0 && (height != -1.0 || biasfactor != -1.0 || random_)) {
    error("PACE=0 adds no hills: HEIGHT, BIASFACTOR and RANDOM_HEIGHT have no meaning with it");
  }
  if (pace_ > 0 && height == -1.0) {
    error("HEIGHT is missing: with PACE above 0 hills need a height");
  }
  if (pace_ > 0 && !(height > 0.0)) {
    error("HEIGHT must be positive; to use a file of hills without adding any give PACE=0");
  }
  if (random_ != (seed_ != -1) || (random_ && seed_ < 0)) {
    error("RANDOM_HEIGHT and SEED belong together; SEED is a number from 0 on");
  }
  height_ev_ = height * units_.electronvolt();
  if (biasfactor == -1.0) {
    return;
  }
  if (!(biasfactor > 1.0)) {
    error("BIASFACTOR must be larger than 1; leave it out for constant heights");
  }
  if (!(kbt > 0.0)) {
    error("TEMP must be given and positive: BIASFACTOR needs a temperature, and the MD code "
          "passes none");
  }
  biasfactor_ = biasfactor;
  kbt_ev_ = kbt * units_.electronvolt();
}

void MatrixMetad::parse_walkers() {
  int n = -1, id = -1, rstride = -1;
  parse("WALKERS_N", n);
  parse("WALKERS_ID", id);
  parse("WALKERS_DIR", walkers_.dir);
  parse("WALKERS_RSTRIDE", rstride);
  if (n == -1) {
    if (id != -1 || rstride != -1 || !walkers_.dir.empty()) {
      error("WALKERS_N is missing: WALKERS_ID, WALKERS_DIR and WALKERS_RSTRIDE need it");
    }
    return;
  }
  if (n < 1 || id < 0 || id >= n) {
    error("WALKERS_N must be positive and WALKERS_ID one of 0 ... WALKERS_N-1");
  }
  if (rstride < 1) {
    error("WALKERS_RSTRIDE must be given and positive");
  }
  if (pace_ == 0) {
    error("PACE=0 adds no hills: walkers have nothing to share");
  }
  walkers_.n = n;
  walkers_.id = id;
  walkers_.rstride = rstride;
}

BiasOptions MatrixMetad::parse_bias() {
  BiasOptions out;
  out.matrix.metric = input_.metric;
  std::string sigma;
  parse("SIGMA", sigma);
  const double length = units_.angstrom();
  const double factor = input_.metric.kind == MetricKind::Inverse    ? 1.0 / length
                        : input_.metric.kind == MetricKind::Distance ? length
                                                                     : 1.0;
  guarded([&] { sigma_ = Sigma::parse(sigma).scaled(factor); });
  out.sigma = sigma_;
  double merge = -1.0;
  parse("MERGE", merge);
  if (merge != -1.0 && !(merge > 0.0)) {
    error("MERGE must be positive; leave it out to merge nothing");
  }
  out.merge = merge == -1.0 ? 0.0 : merge;
  ramp_ = -1;
  parse("RAMP", ramp_);
  if (ramp_ != -1 && ramp_ < 1) {
    error("RAMP must be a positive number of steps");
  }
  out.ramp_steps = ramp_ == -1 ? 0 : ramp_;
  parse("LIST_SKIN", out.list.skin);
  parse("LIST_EXPONENT", out.list.cutoff_exponent);
  if (!(out.list.skin >= 0.0)) {
    error("LIST_SKIN must be positive, or 0 for no list");
  }
  if (!(out.list.cutoff_exponent > 0.0)) {
    error("LIST_EXPONENT must be positive");
  }
  return out;
}

std::string MatrixMetad::walker_path(int id) const {
  const std::string folder = walkers_.dir.empty() ? "" : walkers_.dir + "/";
  return folder + file_ + "." + std::to_string(id);
}

void MatrixMetad::open_files() {
  const bool many = walkers_.n > 1;
  std::string own = many ? walker_path(walkers_.id) : file_;
  own = PLMD::FileBase::appendSuffix(own, plumed.getSuffix());
  const bool use_old = getRestart() || pace_ == 0;
  if (use_old) {
    HillsReader reader(own);
    if (!reader.exists()) {
      error("FILE: there is no hills file " + own +
            (pace_ == 0 ? ", and PACE=0 needs one" : " to restart from"));
    }
    const std::uint64_t torn = reader.read_new([&](const HillFrame& hill) {
      check_belongs(hill, own);
      bias_->add(hill.positions_ang, Cell(hill.cell_ang), hill.height_ev, MatrixBias::kFirstStep);
      last_step_ = hill.step;
      last_height_ev_ = hill.height_ev;
      ++own_hills_;
    });
    log.printf("  read %zu hills from %s\n", reader.hills(), own.c_str());
    if (torn > 0) {
      warning("the last hill of " + own + " is torn (" + std::to_string(torn) +
              " bytes): it is left out" + (pace_ > 0 ? " and cut off the file" : ""));
      comm.Barrier();
      if (pace_ > 0 && comm.Get_rank() == 0) {
        cut_file(own, reader.offset());
      }
    }
    check_newer_ = reader.hills() > 0 && pace_ > 0;
  } else {
    // PLUMED's own file class moves an older file out of the way, as for METAD.  All ranks
    // call it: it has a barrier inside and touches the file on rank 0 only.
    PLMD::OFile backup;
    backup.link(*this);
    backup.open(many ? walker_path(walkers_.id) : file_);
    backup.close();
  }
  if (pace_ > 0 && comm.Get_rank() == 0) {
    writer_.open_append(own);
  }
  for (int id = 0; many && id < walkers_.n; ++id) {
    if (id != walkers_.id) {
      readers_.emplace_back(walker_path(id));
    }
  }
  if (getRestart()) {
    for (HillsReader& reader : readers_) {
      if (reader.exists()) {
        read_hills(reader);
      }
    }
  }
}

void MatrixMetad::read_hills(HillsReader& reader) {
  reader.read_new([&](const HillFrame& hill) {
    check_belongs(hill, reader.path());
    bias_->add(hill.positions_ang, Cell(hill.cell_ang), hill.height_ev, MatrixBias::kFirstStep);
  });
}

void MatrixMetad::check_belongs(const HillFrame& hill, const std::string& path) const {
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error("hills file " + path + " does not belong to this bias: " + why);
  };
  if (hill.ids != input_.ids) {
    refuse("it is of " + std::to_string(hill.ids.size()) + " atoms, and GROUP has " +
           std::to_string(input_.ids.size()) + " or other ones");
  }
  if (hill.species != input_.selection.species()) {
    refuse("its elements are not those of SPECIES");
  }
  if (hill.metric != metric_name(input_.metric.kind)) {
    refuse("it has metric " + hill.metric + ", and METRIC is " + metric_name(input_.metric.kind));
  }
  const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-9 * std::abs(b); };
  if (!close(hill.cutoff_ang, input_.metric.cutoff_ang) ||
      !close(hill.r_on_ang, input_.metric.r_on_ang)) {
    refuse("it has a cutoff of " + format_double(hill.cutoff_ang) + " A and an r_on of " +
           format_double(hill.r_on_ang) + " A, other than CUTOFF and R_ON");
  }
  if (!Sigma::parse(hill.sigma).matches(sigma_)) {
    refuse("it has sigma " + hill.sigma + ", and SIGMA is " + sigma_.text() + " in Angstrom");
  }
  if (hill.pairs != bias_->matrix().count()) {
    refuse("it is of " + std::to_string(hill.pairs) + " pairs, and the matrix has " +
           std::to_string(bias_->matrix().count()) + ": other groups or exclusions");
  }
  if (hill.periodic && !input_.periodic) {
    refuse("it has a periodic cell, and NOPBC is given");
  }
}

void MatrixMetad::calculate() {
  copy_positions(getPositions(), units_.angstrom(), x_);
  cell_ = input_.periodic ? make_cell(getBox(), units_.angstrom()) : Cell();
  if (check_newer_) {
    check_newer_ = false;
    if (last_step_ > getStep()) {
      warning("FILE has hills up to step " + std::to_string(last_step_) +
              ", newer than this run's first step " + std::to_string(getStep()) +
              ": they were added after the state that the MD code restarts from");
    }
  }
  guarded([this] { bias_->evaluate(x_, cell_, getStep()); });
  set_outputs();
  PLMD::Value* bias = getPntrToComponent("bias");
  const double slope = units_.angstrom() / units_.electronvolt();
  for (std::size_t a = 0; a < x_.size(); ++a) {
    const Vec3& g = bias_->gradient()[a];
    setAtomsDerivatives(bias, static_cast<int>(a), PLMD::Vector(g[0], g[1], g[2]) * slope);
  }
  setBoxDerivatives(bias, to_tensor(bias_->virial()) * (1.0 / units_.electronvolt()));
}

void MatrixMetad::set_outputs() {
  const double ev = units_.electronvolt();
  getPntrToComponent("bias")->set(bias_->energy() / ev);
  getPntrToComponent("nhills")->set(double(bias_->hills()));
  getPntrToComponent("active")->set(double(bias_->active()));
  getPntrToComponent("height")->set(last_height_ev_ / ev);
  getPntrToComponent("work")->set(bias_->work() / ev);
}

void MatrixMetad::apply() {
  // A bias is a potential: its force on itself is -1 (times the stride, as for every bias).
  if (onStep()) {
    getPntrToComponent("bias")->addForce(-double(getStride()));
  }
  Colvar::apply();
}

void MatrixMetad::update() {
  // A step is met again when a host runs on from where it stopped; step 0 is the start.
  const long long step = getStep();
  if (pace_ > 0 && step % pace_ == 0 && step != 0 && step != last_step_) {
    guarded([this] { deposit(); });
  }
  if (!readers_.empty() && step % walkers_.rstride == 0) {
    guarded([this] { read_walkers(); });
  }
}

void MatrixMetad::deposit() {
  double height = height_ev_;
  if (random_) {
    height *= uniform(std::uint64_t(seed_), own_hills_);
  }
  if (biasfactor_ > 0.0) {
    height *= std::exp(-bias_->energy() / (kbt_ev_ * (biasfactor_ - 1.0)));
  }
  last_step_ = getStep();
  if (comm.Get_rank() == 0) {
    writer_.append(frame(height));
  }
  bias_->add_here(x_, cell_, height, getStep());
  last_height_ev_ = height;
  ++own_hills_;
}

void MatrixMetad::read_walkers() {
  const std::size_t before = bias_->hills();
  for (HillsReader& reader : readers_) {
    if (reader.exists()) {
      read_hills(reader);
    }
  }
  if (bias_->hills() > before) {
    bias_->recount(x_, cell_, getStep());
  }
}

HillFrame MatrixMetad::frame(double height_ev) const {
  HillFrame out;
  out.step = getStep();
  out.time_ps = getTime() * units_.picosecond();
  out.height_ev = height_ev;
  out.sigma = sigma_.text();
  out.biasfactor = biasfactor_;
  out.metric = metric_name(input_.metric.kind);
  out.cutoff_ang = input_.metric.cutoff_ang;
  out.r_on_ang = input_.metric.r_on_ang;
  out.pairs = bias_->matrix().count();
  out.periodic = cell_.periodic();
  out.cell_ang = cell_.rows();
  out.species = input_.selection.species();
  out.positions_ang = x_;
  out.ids = input_.ids;
  return out;
}

} // namespace metamd::plumed
