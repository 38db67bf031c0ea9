import threading

import numpy as np

from rtseg.core.arrays import ArrayPool


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_holds_is_used_again():
    pool = ArrayPool()
    array = pool.take((4, 6, 3))
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((4, 6, 3), np.uint8, True)
    first = address(array)
    del array
    assert address(pool.take((4, 6, 3))) == first


def test_memory_that_is_held_through_a_view_of_a_view_is_left_alone():
    pool = ArrayPool()
    array = pool.take((8, 8))
    array[:] = 7
    view = array[2:, 2:][:3].T
    first = address(array)
    del array
    other = pool.take((8, 8))
    assert address(other) != first
    other[:] = 9
    assert (view == 7).all()


def test_every_array_that_is_held_is_another_one_even_beyond_the_limit():
    pool = ArrayPool(most=2)
    held = [pool.take((5, 5)) for _ in range(6)]
    assert len({address(array) for array in held}) == 6


def test_shapes_that_are_no_longer_wanted_make_room():
    pool = ArrayPool(most=2)
    for shape in ((2, 2), (3, 3), (4, 4)):
        pool.take(shape)
    array = pool.take((4, 4))
    first = address(array)
    del array
    assert address(pool.take((4, 4))) == first


def test_threads_never_share_an_array():
    pool, wrong = ArrayPool(most=4), []

    def work(value):
        for _ in range(500):
            array = pool.take((64,))
            array[:] = value
            if (array != value).any():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
