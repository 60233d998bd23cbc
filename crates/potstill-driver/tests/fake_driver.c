/* A driver of two devices, for tests: everything that the crate asks for, and environment variables that break it. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int contexts = 0;

static int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text == NULL ? otherwise : atoi(text);
}

int cuDriverGetVersion(int *version) {
  *version = number("FAKE_CUDA_VERSION", 13020);
  return 0;
}
int cuInit(unsigned flags) { return flags == 0 ? number("FAKE_CUDA_INIT", 0) : 1; }
int cuGetErrorName(int code, const char **name) {
  *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : NULL;
  return *name == NULL;
}
int cuDeviceGetCount(int *count) {
  *count = number("FAKE_CUDA_DEVICES", 2);
  return 0;
}
int cuDeviceGet(int *device, int index) {
  *device = 10 + index;
  return index < number("FAKE_CUDA_DEVICES", 2) ? 0 : 101;
}
int cuDeviceGetName(char *name, int length, int device) {
  strncpy(name, device == 10 ? "Fake One" : "Fake Two", (size_t)length);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  *bytes = (size_t)(device == 10 ? 24 : 141) << 30;
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  if (attribute == 75) *value = device == 10 ? 8 : 9;
  else if (attribute == 76) *value = device == 10 ? 6 : 0;
  else return 1;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  contexts += 1;
  *context = (void *)(size_t)device;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  contexts -= 1;
  return device >= 10 ? 0 : 1;
}
static void *current = NULL;
int cuCtxPushCurrent_v2(void *context) {
  current = context;
  return 0;
}
int cuCtxPopCurrent_v2(void **context) {
  *context = current;
  current = NULL;
  return 0;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  if (current == NULL || contexts != 1) return 201;
  *free_bytes = (size_t)number("FAKE_CUDA_FREE_MIB", current == (void *)10 ? 20480 : 102400) << 20;
  *total = 0;
  return 0;
}
