"""Tests that `make test` leaves out, as others find the faults of everyday work sooner; `make test-all` and CI run them."""

from __future__ import annotations

_FURTHER = ("qemu:1@rv32", "qemu:1@esp32isa")
_SAME_BITS = "test_weights_deltas_and_predictions_equal_the_native_process"
_HELD_WEIGHTS = "test_the_device_holds_the_weights_that_were_encoded"
_LONG_SAMPLES = "test_samples_beyond_the_usual_window_train_to_the_same_weights"
_FEDERATIONS = (
    "i8 up, f16 down",
    "f32 up, f32 down",
    "f16 up, f32 down",
    "f32 up, i8 down, redrawn starts",
    "f16 up, i8 down, redrawn starts",
    "selection by layer",
    "error feedback and kept starts, global",
    "error feedback and kept starts, f16 up, i8 down by difference",
)

# Whole files, functions with all their parameters, and functions with one set of parameters. In a long matrix, the parameters
# have the mark `exhaustive` where they are listed.
EXHAUSTIVE = {
    # One firmware under the sanitizers with every op; those of two small models stay, and every op on every board.
    "tests/emulator/test_same_bits.py::test_weights_deltas_and_predictions_equal_the_native_process[sanitized-every-op]",
    # The same model on further boards: a sine model with a float16 download and long samples stay on one, every op on all.
    *(f"tests/emulator/test_same_bits.py::{_SAME_BITS}[{board}-sine-f16]" for board in _FURTHER),
    *(f"tests/emulator/test_scenarios.py::{_HELD_WEIGHTS}[{board}-sine-f16]" for board in _FURTHER),
    *(f"tests/emulator/test_same_bits.py::{_LONG_SAMPLES}[{board}]" for board in _FURTHER),
    *(f"tests/emulator/test_private_bits.py::test_private_updates_are_those_of_the_simulation[{board}]" for board in _FURTHER),
    # Of pairs of value types on the wire and of strategies, those where each type and each strategy is in one row stay.
    *(f"tests/emulator/test_federations.py::test_boards_end_on_the_simulations_weights[{row}]" for row in _FEDERATIONS),
    "tests/emulator/test_federations.py::test_four_emulated_boards_end_on_the_simulations_weights[i8 up, f16 down]",
    "tests/emulator/test_federations.py::test_four_emulated_boards_end_on_the_simulations_weights[reptile]",
    "tests/simulation/test_simulated_clients.py::test_omniglot_is_the_same_on_devices",
    "tests/simulation/test_simulated_clients.py::test_sine_is_the_same_on_devices[f32-i8-native:1-3-more2]",
    # Whole examples, of which a small network of the same kind or another example stays.
    "tests/core/test_xtensa_build.py::test_products_and_sums_are_rounded_separately[sine]",
    "tests/emulator/test_same_bits.py::test_handwriting_streamed_into_an_emulated_board_trains_to_the_native_weights",
    "tests/federation/test_learning.py::test_digits_of_unseen_speakers_are_told_apart_after_two_hundred_rounds",
    "tests/emulator/test_bytes_first.py",
    "tests/emulator/test_papers_size.py",
    # Boards of each kind, and the builds of each, where one kind stays.
    "tests/emulator/test_every_kind.py",  # twelve builds; each option on boards of one kind or as a unit stays
    "tests/emulator/test_many.py::test_fifty_boards_of_mixed_kinds_end_on_the_weights_of_one",
    "tests/test_firmware_build.py::test_builds_without_a_network_and_then_only_what_changed[esp32isa]",
    "tests/test_firmware_build.py::test_builds_without_a_network_and_then_only_what_changed[mps2]",
    "tests/emulator/test_many.py::test_ten_idle_boards_use_almost_no_processor_time",  # one idle board of each kind stays
    "tests/emulator/test_reboots.py::test_a_board_that_reboots_at_any_message_joins_again[qemu:2-before a message]",
    "tests/plugins/test_own_board.py::test_the_port_of_a_real_board_is_built_by_the_vendors_platform",
    "tests/bench/test_own_figures.py::test_a_board_says_what_it_has_measured_of_itself[mps2]",
    "tests/bench/test_own_figures.py::test_a_board_says_what_it_has_measured_of_itself[rv32]",
    "tests/cli/test_cli.py::test_bench_prints_the_counted_instructions[rv32-100000-1000000-no cycles]",
    "tests/nrf52840/test_chip.py::test_bytes_may_arrive_at_any_instruction_of_the_handler[Renode]",
    "tests/test_pio_test.py::test_failed_tests_show_their_place_and_a_stopped_firmware_its_last_output[mps2]",
    "tests/test_pio_test.py::test_the_firmwares_unit_tests_pass[mps2]",
    "tests/test_pio_test.py::test_the_firmwares_unit_tests_pass[rv32]",
    # Models and builds alike, where one stays; how tiles cover a row shows in the kernels' results too.
    "tests/kernels/test_column_tiles.py",
    "tests/kernels/test_stored_activations.py::test_stored_packed_and_computed_again_train_to_the_same_weights[f32]",
    "tests/kernels/test_textbook.py::test_some_textbook_kernels_give_the_same_bits[depthwise narrow]",
    "tests/plugins/test_own_task.py::test_an_exception_of_the_class_during_a_run_is_reported_with_its_line[train -d native:2]",
    "tests/projects/test_new.py::test_a_new_project_learns",
    "tests/projects/test_new.py::test_platformio_builds_it_into_its_own_folder[False]",
    "tests/test_flash_estimate.py::test_the_estimate_holds_for_awkward_sizes[dense local first]",
    "tests/test_flash_estimate.py::test_the_estimate_holds_for_awkward_sizes[odd int8]",
    # In Chromium; what the server sends is tested without it.
    "tests/pages/test_live_browser.py",
    # Measured stack and instructions; the budgets of the larger examples stay.
    "tests/test_budgets.py::test_each_example_keeps_to_its_budget[bench-conv]",
    "tests/bench/test_kernel_cost.py::test_two_counts_of_the_same_steps_are_equal[streamed]",
    "tests/bench/test_augment_cost.py::test_a_moved_image_takes_a_small_part_of_a_step_and_no_ram",
    "tests/bench/test_footprint.py",
    "tests/bench/test_level_cost.py::test_four_bits_in_a_range_code_take_a_small_part_of_a_round",
    "tests/experiments/plan/test_fleet_bench.py::test_a_small_fleet_is_measured_and_predicted",
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
    # Lies in messages of three kinds of firmware, of which one stays.
    "tests/federation/test_liars_by_options.py::test_lies_about_versions_reach_no_weight",
    "tests/federation/test_liars_by_options.py::test_lies_in_coded_updates_reach_no_weight",
    "tests/federation/test_liars_by_options.py::test_lies_in_ranged_updates_reach_no_weight",
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
    "tests/fuzz/test_fuzz.py::test_samples_in_parts_have_no_finding_and_planted_faults_are_found",
    "tests/arduino/test_network_lines.py::test_a_board_on_tcp_trains_to_the_same_weights_and_takes_the_host_that_came_last",
    "tests/devices/test_mqtt.py::test_bad_messages_and_a_broker_that_restarts_end_on_the_simulations_weights[authenticated]",
    "tests/devices/test_mqtt.py::test_a_run_whose_broker_stays_away_stops_and_is_continued_to_the_same_weights",
    "tests/devices/test_native_tcp.py::test_a_run_over_tcp_has_the_weights_of_a_simulation[authenticated]",
    "tests/devices/test_state_machine.py::test_a_session_over_a_bad_line_ends_like_one_over_a_good_line[streamed]",
}


def is_exhaustive(nodeid: str) -> bool:
    """Whether a test is one of those above."""
    return not EXHAUSTIVE.isdisjoint({nodeid.partition("::")[0], nodeid.partition("[")[0], nodeid})
