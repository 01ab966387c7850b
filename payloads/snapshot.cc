// The bare hypercall, which needs the header alone and no library. The program ends with the
// snapshot and goes on behind it in every resume.
#include <km/hypercall.h>

#include <iostream>
#include <map>
#include <string>

int main() {
  std::map<std::string, int> lengths;
  for (const char* word : {"one", "three", "eleven"}) lengths[word] = std::string(word).size();
  std::cout << "table of " << lengths.size() << " words built" << std::endl;

  km_hc_args_t args = {};
  km_hcall(HC_snapshot, &args);

  // Negative: no snapshot was taken, because of an error or because this is not km.
  const auto result = static_cast<int64_t>(args.hc_ret);
  std::cout << (result == 1 ? "resumed" : "not resumed") << ": eleven has " << lengths["eleven"]
            << " letters" << std::endl;
  return result == 1 ? 0 : 1;
}
