// The version of this km: what `km --version` says, and snapshots name as their producer.
#ifndef KM_BASE_VERSION_H_
#define KM_BASE_VERSION_H_

namespace km {
inline constexpr char kKmVersion[] = "0.1.0";
}

#endif  // KM_BASE_VERSION_H_
