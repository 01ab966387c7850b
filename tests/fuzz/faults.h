// Faults of a monitor that runs inside a fuzz target.
#ifndef TESTS_FUZZ_FAULTS_H_
#define TESTS_FUZZ_FAULTS_H_

namespace km {

// After InstallHostSignals: as the monitor's own handler, but a fault that is not for a guarded
// copy goes to the sanitizer, which reports it. `KeepSanitizersHandlers` before it.
void KeepSanitizersHandlers();
void InstallFaultHandlers();

}  // namespace km

#endif  // TESTS_FUZZ_FAULTS_H_
