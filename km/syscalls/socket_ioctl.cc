// ioctl(2) requests of sockets and of network interfaces (sockios.h, netdevice(7)).
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <algorithm>
#include <iterator>

#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"

namespace km {
namespace {

struct Request {
  uint32_t number;
  uint32_t size;  // of what its argument points to, in which there is no pointer
};

constexpr Request kRequests[] = {
    {SIOCATMARK, sizeof(int)},         {SIOCOUTQNSD, sizeof(int)},
    {SIOCGSTAMP_OLD, sizeof(timeval)}, {SIOCGSTAMPNS_OLD, sizeof(timespec)},
    {SIOCGSTAMP_NEW, sizeof(timeval)}, {SIOCGSTAMPNS_NEW, sizeof(timespec)},
    {SIOCGIFNAME, sizeof(ifreq)},      {SIOCGIFINDEX, sizeof(ifreq)},
    {SIOCGIFFLAGS, sizeof(ifreq)},     {SIOCSIFFLAGS, sizeof(ifreq)},
    {SIOCGIFADDR, sizeof(ifreq)},      {SIOCSIFADDR, sizeof(ifreq)},
    {SIOCGIFDSTADDR, sizeof(ifreq)},   {SIOCSIFDSTADDR, sizeof(ifreq)},
    {SIOCGIFBRDADDR, sizeof(ifreq)},   {SIOCSIFBRDADDR, sizeof(ifreq)},
    {SIOCGIFNETMASK, sizeof(ifreq)},   {SIOCSIFNETMASK, sizeof(ifreq)},
    {SIOCGIFMETRIC, sizeof(ifreq)},    {SIOCSIFMETRIC, sizeof(ifreq)},
    {SIOCGIFMTU, sizeof(ifreq)},       {SIOCSIFMTU, sizeof(ifreq)},
    {SIOCGIFHWADDR, sizeof(ifreq)},    {SIOCSIFHWADDR, sizeof(ifreq)},
    {SIOCGIFMAP, sizeof(ifreq)},       {SIOCGIFTXQLEN, sizeof(ifreq)},
    {SIOCSIFTXQLEN, sizeof(ifreq)},    {SIOCSIFNAME, sizeof(ifreq)},
    {SIOCGARP, sizeof(arpreq)},        {SIOCSARP, sizeof(arpreq)},
    {SIOCDARP, sizeof(arpreq)},
};

int64_t OnHost(Call& call, const std::shared_ptr<OpenFile>& file, uint64_t argument) {
  return call.thread.Block(SYS_ioctl, HostFd(file), call.Uint(1), argument);
}

// The list of interfaces goes where a pointer in the structure says.
int64_t ListInterfaces(Call& call, const std::shared_ptr<OpenFile>& file) {
  ifconf list;
  if (int error = call.memory().CopyIn(&list, call.Addr(2)); error != 0) return error;
  auto to = reinterpret_cast<uint64_t>(list.ifc_buf);
  auto room = static_cast<uint64_t>(std::max(list.ifc_len, 0));
  list.ifc_buf = reinterpret_cast<char*>(call.Host(to, room));
  int64_t result = OnHost(call, file, reinterpret_cast<uint64_t>(&list));
  return result != 0 ? result : call.memory().CopyOut(call.Addr(2), list.ifc_len);
}

}  // namespace

std::optional<int64_t> SocketIoctl(Call& call, const std::shared_ptr<OpenFile>& file) {
  if (file->description->kind != FileKind::kSocket) return std::nullopt;
  uint32_t number = call.Uint(1);
  if (number == SIOCGIFCONF) return ListInterfaces(call, file);
  auto known = std::find_if(std::begin(kRequests), std::end(kRequests),
                            [number](const Request& r) { return r.number == number; });
  if (known == std::end(kRequests)) return std::nullopt;
  return OnHost(call, file, call.HostArg(2, known->size));
}

}  // namespace km
