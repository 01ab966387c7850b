// <linux/kvm.h> for C++.
//
// Debian 12's <linux/stddef.h> puts an empty struct before a flexible array member; in C++ that
// struct has a size of one byte, so sizeof and with it the ioctl numbers come out wrong (EINVAL).
#ifndef KM_KVM_KVM_API_H_
#define KM_KVM_KVM_API_H_

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <linux/kvm.h>
#pragma GCC diagnostic pop

static_assert(KVM_GET_SUPPORTED_CPUID == 0xc008ae05);
static_assert(KVM_SET_CPUID2 == 0x4008ae90);
static_assert(KVM_GET_MSRS == 0xc008ae88);
static_assert(KVM_SET_MSRS == 0x4008ae89);
static_assert(KVM_SET_SIGNAL_MASK == 0x4004ae8b);

#endif  // KM_KVM_KVM_API_H_
