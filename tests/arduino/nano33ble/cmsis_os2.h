// Stand-in for CMSIS-RTOS2's cmsis_os2.h: the thread that is running.
#pragma once

typedef void* osThreadId_t;

#ifdef __cplusplus
extern "C"
#endif
    osThreadId_t
    osThreadGetId(void);
