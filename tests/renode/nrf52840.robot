*** Comments ***
The nRF52840's firmware in Renode: it starts, answers a greeting, and two boards in one emulation keep to their own lines.

*** Variables ***
# tests/renode/test_robot.py gives PROGRAM, the frame of a Hello as HELLO, and FOLDER with the scripts.
${BOARD_NAME}       6e 72 66 35 32 38 34 30

*** Keywords ***
Create Board
    [Arguments]                 ${name}  ${unique_id}
    Execute Command             mach clear  # or the variables are those of the machine made before
    Execute Command             $name="${name}"
    Execute Command             $unique_id=${unique_id}
    Execute Command             $platform="${FOLDER}/nrf52840.repl"
    Execute Command             $program="${PROGRAM}"
    Execute Command             include "${FOLDER}/machine.resc"
    ${tester}=                  Create Terminal Tester  sysbus.uart0  machine=${name}  timeout=5  binaryMode=true
    RETURN                      ${tester}

Start And Stay Silent
    [Arguments]                 ${tester}
    Start Emulation
    Test If Uart Is Idle        0.1  testerId=${tester}  # of the board's time; it is ready long before

Say Hello
    [Arguments]                 ${name}
    Execute Command             mach set "${name}"
    FOR  ${byte}  IN  @{HELLO.split(',')}
        Execute Command         sysbus.uart0 WriteChar ${byte}
    END

*** Test Cases ***
Should Start Without A Fault
    Create Log Tester           1
    ${tester}=                  Create Board  alone  0x1122334455667788
    Start And Stay Silent       ${tester}
    Should Not Be In Log        SYSRESETREQ

Should Answer A Greeting
    ${tester}=                  Create Board  alone  0x1122334455667788
    Start And Stay Silent       ${tester}
    Say Hello                   alone
    Wait For Bytes On Uart      ${BOARD_NAME}
    Wait For Bytes On Uart      11 22 33 44 55 66 77 88

Should Answer After A Reset
    ${tester}=                  Create Board  alone  0x1122334455667788
    Start And Stay Silent       ${tester}
    Execute Command             machine Reset
    Start And Stay Silent       ${tester}
    Say Hello                   alone
    Wait For Bytes On Uart      11 22 33 44 55 66 77 88

Two Boards Should Answer On Their Own Lines
    ${first}=                   Create Board  first  0x1111111111111111
    ${second}=                  Create Board  second  0x2222222222222222
    Start And Stay Silent       ${first}
    Say Hello                   second
    Wait For Bytes On Uart      22 22 22 22 22 22 22 22  testerId=${second}
    Test If Uart Is Idle        0.1  testerId=${first}
    Say Hello                   first
    Wait For Bytes On Uart      11 11 11 11 11 11 11 11  testerId=${first}
