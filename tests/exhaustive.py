"""Tests that `make test` leaves out, as others find the faults of everyday work sooner; `make test-all` and CI run them."""

from __future__ import annotations

# Whole files, functions with all their parameters, and functions with one set of parameters. In a long matrix, the parameters
# have the mark `exhaustive` where they are listed.
EXHAUSTIVE = {
    # One firmware under the sanitizers with every op; those of two small models stay, and every op on every board.
    "tests/emulator/test_same_bits.py::test_weights_deltas_and_predictions_equal_the_native_process[sanitized-every-op]",
    # Boards of each kind, and the builds of each, where one kind stays.
    "tests/emulator/test_many.py::test_fifty_boards_of_mixed_kinds_end_on_the_weights_of_one",
    "tests/test_firmware_build.py::test_builds_without_a_network_and_then_only_what_changed[esp32isa]",
    "tests/test_firmware_build.py::test_builds_without_a_network_and_then_only_what_changed[mps2]",
    # In Chromium; what the server sends is tested without it.
    "tests/pages/test_live_browser.py",
    # Measured stack and instructions; the budgets of the examples stay.
    "tests/bench/test_footprint.py",
    "tests/bench/test_kernel_cost.py::test_both_kernels_train_alike_and_are_counted[bench-conv]",
    # Walks through whole pages, over what tests of the parts have checked. Of the pages about a user's own code, that of the
    # own op stays, from a wheel.
    "tests/emulator/test_activity.py::test_four_emulated_boards_end_on_the_simulations_weights",
    "tests/emulator/test_sensor_walk.py::test_the_walk_through_of_readme",
    "tests/cli/test_live_commands.py::test_the_commands_of_the_page_work",
    "tests/plugins/test_export_wheel.py",
    "tests/plugins/test_pipx.py",
    "tests/test_container_chroot.py",
    "tests/plugins/test_own_board.py::test_an_emulated_board_with_a_port_of_its_own_trains_to_the_same_bits",
    "tests/plugins/test_own_board.py::test_an_own_board_replaces_the_built_in_board_of_its_name",
    "tests/plugins/test_own_board.py::test_every_command_of_the_page_works_from_a_wheel",
    "tests/plugins/test_own_task.py::test_a_sweep_repeats_the_runs_that_depend_on_a_changed_file",
    "tests/plugins/test_own_task.py::test_bytes_and_samples_per_class_train_alike_in_a_simulation_and_on_devices",
    "tests/plugins/test_own_task.py::test_every_command_of_the_page_runs_from_a_wheel_and_all_runs_end_in_the_same_weights",
    "tests/projects/test_new.py::test_a_copied_project_builds_with_an_installation_in_another_place",
    "tests/projects/test_new.py::test_an_installed_wheel_makes_and_trains_a_project_and_is_never_written_to",
    "tests/runs/test_moved_project.py::test_a_run_goes_on_where_its_project_has_been_copied_to[native:1-True]",
    # Machines that are lost over Flower, which takes half a minute to notice; the same in memory stays.
    "tests/gateways/test_flower_lost.py",
    # Many moments at which a process ends; tests of single moments stay.
    "tests/core/test_store_log.py::test_a_power_cut_at_any_program_or_erase_leaves_the_old_or_the_new_records",
    "tests/experiments/sweep/test_execute.py::test_a_killed_sweep_is_continued_to_the_same_results",
    "tests/runs/test_runner.py::test_a_full_disk_stops_a_run_with_an_error_and_loses_nothing",
    "tests/runs/test_runner.py::test_a_run_killed_at_random_moments_ends_with_the_clean_weights",
    "tests/runs/test_runner.py::test_ctrl_c_at_random_moments_says_how_to_resume",
    "tests/runs/test_store.py::test_wherever_the_start_of_a_run_is_killed_the_folder_can_be_used_again",
    # Tests of tests, and every op through every compiler in the language of an exported library.
    "tests/codegen/test_exported_library.py::test_every_op_is_in_a_model_and_its_kernels_compile_as_cpp11_with_every_compiler",
    "tests/fuzz/test_fuzz.py::test_planted_faults_are_found",
    "tests/devices/test_native_tcp.py::test_a_run_over_tcp_has_the_weights_of_a_simulation[authenticated]",
    "tests/devices/test_state_machine.py::test_a_session_over_a_bad_line_ends_like_one_over_a_good_line[streamed]",
}


def is_exhaustive(nodeid: str) -> bool:
    """Whether a test is one of those above."""
    return not EXHAUSTIVE.isdisjoint({nodeid.partition("::")[0], nodeid.partition("[")[0], nodeid})
